/* Where in the arena each tensor lies: one that dies makes room for others. */
#include "sqz_runtime.h"

/* What must not share its bytes with others from operation `first` to `last`. */
typedef struct {
    uint32_t bytes, first, last;
    uint32_t *offset;
} claim;

/* Claims are numbered: tensors, the scratch of each operation, the logits, then two that a
 * streamed model has for the whole run. */
static int claim_of(sqz_model *m, uint32_t i, claim *c) {
    uint32_t end = m->num_steps - 1;
    if (i < m->num_tensors) {
        sqz_place *p = &m->places[i];
        c->bytes = p->offset == SQZ_NOWHERE || p->root != i ? 0 : p->bytes;
        c->first = p->first;
        c->last = p->last;
        c->offset = &p->offset;
    } else if (i < m->num_tensors + m->num_steps) {
        sqz_step *s = &m->steps[i - m->num_tensors];
        c->bytes = s->scratch_bytes;
        c->first = c->last = i - m->num_tensors;
        c->offset = &s->scratch;
    } else if (i == m->num_tensors + m->num_steps) {
        c->bytes = m->num_classes * (uint32_t)sizeof(int32_t);
        c->first = c->last = end;
        while (!m->steps[c->first].is_head) c->first--; /* others may run behind it */
        c->offset = &m->logits;
    } else {
        int levels = i - m->num_tensors - m->num_steps == 2;
        c->bytes = !m->options.streamed ? 0 : levels ? m->file.largest_channel
                                                     : (uint32_t)sizeof(sqz_decoder);
        c->first = 0;
        c->last = end;
        c->offset = levels ? &m->levels : &m->decoder;
    }
    return c->bytes > 0;
}

/* A pool writes behind what it has still to read, and an addition where it reads: they may work in
 * place if their source dies with them. */
static void share(sqz_model *m) {
    for (uint32_t i = 0; i < m->num_steps; i++) {
        const sqz_operation *op = &m->steps[i].op;
        sqz_place *out = &m->places[op->target];
        if (op->kind != SQZ_MAX_POOL && op->kind != SQZ_ADD) continue;
        uint32_t sources[2] = {op->source, op->kind == SQZ_ADD ? op->other : op->source};
        for (unsigned k = 0; k < 2 && out->root == op->target; k++) {
            sqz_place *in = &m->places[sources[k]];
            sqz_place *root = &m->places[in->root];
            if (in->offset == SQZ_NOWHERE || in->last != i || root->last != i) continue;
            if (in->border != out->border || (op->kind == SQZ_MAX_POOL && in->border)) continue;
            if (out->bytes > root->bytes) continue;
            out->root = in->root;
            root->last = out->last;
        }
    }
}

sqz_error sqz_place_all(sqz_model *m) {
    uint32_t num_claims = m->num_tensors + m->num_steps + 3;
    uint8_t placed[2 * SQZ_MAX_STEPS + 3] = {0};
    share(m);
    m->arena = 0;
    for (;;) {
        /* The largest that has no place yet, at the lowest offset where nothing is in its way. */
        claim largest = {0, 0, 0, NULL}, other;
        uint32_t chosen = 0;
        for (uint32_t i = 0; i < num_claims; i++)
            if (!placed[i] && claim_of(m, i, &other) && other.bytes > largest.bytes)
                largest = other, chosen = i;
        if (largest.offset == NULL) break;
        uint64_t offset = 0;
        for (int moved = 1; moved;) {
            moved = 0;
            for (uint32_t i = 0; i < num_claims; i++) {
                if (!placed[i] || !claim_of(m, i, &other) || other.last < largest.first ||
                    other.first > largest.last)
                    continue;
                uint64_t end = *other.offset + sqz_round_up(other.bytes, 16);
                if (offset < end && *other.offset < offset + largest.bytes) {
                    offset = end;
                    moved = 1;
                }
            }
        }
        if (offset + largest.bytes >= SQZ_NOWHERE - 4096) return SQZ_LIMIT;
        *largest.offset = (uint32_t)offset;
        placed[chosen] = 1;
        if (offset + largest.bytes > m->arena) m->arena = (size_t)(offset + largest.bytes);
    }
    for (uint32_t i = 0; i < m->num_tensors; i++)
        if (m->places[i].offset != SQZ_NOWHERE)
            m->places[i].offset = m->places[m->places[i].root].offset;
    return SQZ_OK;
}
