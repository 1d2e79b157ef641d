/* Files that are damaged after sqz_open, files for float32 alone, and numbers at their limits. */
#include "misuse.h"

#include "../../src/sqz_levels.h"

/* Counts of outcomes. All are right, except a crash and SQZ_WRONG_USE. */
typedef struct {
    unsigned errors[16], same, other;
} tally;

static void count(tally *t, const client *c, sqz_error error) {
    if (error) t->errors[error]++;
    else if (memcmp(c->logits, c->expected, c->num_classes * sizeof *c->logits)) t->other++;
    else t->same++;
}

static void say_tally(const char *what, const tally *t) {
    char text[400];
    int end = sprintf(text, "%u the same logits, %u other logits", t->same, t->other);
    for (int e = 0; e < 16; e++)
        if (t->errors[e])
            end += sprintf(text + end, ", %u: %s", t->errors[e], sqz_error_text((sqz_error)e));
    say(what, text, !t->errors[SQZ_WRONG_USE] && !t->errors[SQZ_BUSY]);
}

/* Load and run a file that was damaged after sqz_open. */
static void load_damaged(client *c, int streamed, tally *t) {
    sqz_model model;
    sqz_context context;
    sqz_options options = {streamed, 1, NULL};
    size_t need = sqz_model_size(&c->file, &options);
    void *memory = exactly(need), *arena = NULL;
    sqz_error error = sqz_load(&model, &c->file, &options, memory, need);
    if (!need) error = error == SQZ_WRONG_USE ? SQZ_OK : error; /* the size was refused, too */
    if (!error) {
        size_t room = sqz_classify_size(&model, &c->image);
        arena = exactly(room);
        error = sqz_start(&context, &model, arena, room);
        if (!error && model.num_classes == c->num_classes) {
            error = sqz_run(&context, c->pixels, c->logits, c->num_classes);
            sqz_classify(&context, &c->image, c->answers, 1);
        }
    }
    count(t, c, error);
    free(arena), free(memory);
}

/* Run a context whose file was damaged after sqz_start. */
static void run_damaged(client *c, tally *t) {
    count(t, c, sqz_run(&c->context, c->pixels, c->logits, c->num_classes));
    sqz_classify(&c->context, &c->image, c->answers, c->num_classes);
}

static uint32_t random_below(uint32_t limit) {
    static uint32_t state = 1;
    state ^= state << 13, state ^= state >> 17, state ^= state << 5;
    return state % limit;
}

static client *victim;

/* An sqz_parallel that damages the file while its context runs. */
static void damage_and_work(void *user, void (*task)(void *argument, unsigned i), void *argument,
                            unsigned count) {
    (void)user;
    victim->bytes[random_below((uint32_t)victim->size)] ^= (uint8_t)(1 + random_below(255));
    for (unsigned i = 0; i < count; i++) task(argument, i);
}

void damage(client *c) {
    static const char *const modes[] = {"loaded", "streamed"};
    uint8_t *good = exactly(c->size);
    char text[80];
    memcpy(good, c->bytes, c->size);
    for (int streamed = 0; streamed < 2; streamed++) {
        tally t = {{0}, 0, 0};
        for (size_t bit = 0; bit < 8 * c->size; bit++) {
            c->bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
            load_damaged(c, streamed, &t);
            c->bytes[bit / 8] = good[bit / 8];
        }
        sprintf(text, "each bit flipped before sqz_load, %s", modes[streamed]);
        say_tally(text, &t);
    }
    stop(c);
    start(c, 1, 2);
    tally turned = {{0}, 0, 0}, many = {{0}, 0, 0}, meanwhile = {{0}, 0, 0}, ends = {{0}, 0, 0};
    for (size_t bit = 0; bit < 8 * c->size; bit++) {
        c->bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        run_damaged(c, &turned);
        c->bytes[bit / 8] = good[bit / 8];
    }
    say_tally("each bit flipped between sqz_start and sqz_run", &turned);
    for (unsigned i = 0; i < 2000; i++) {
        for (unsigned k = 0; k < 1 + i % 40; k++)
            c->bytes[random_below((uint32_t)c->size)] = (uint8_t)random_below(256);
        run_damaged(c, &many);
        load_damaged(c, (int)i % 2, &many);
        memcpy(c->bytes, good, c->size);
    }
    say_tally("1 to 40 bytes changed", &many);
    victim = c;
    c->context.parallel = damage_and_work;
    for (unsigned i = 0; i < 500; i++) {
        run_damaged(c, &meanwhile);
        memcpy(c->bytes, good, c->size);
    }
    c->context.parallel = NULL;
    say_tally("bytes changed while it runs", &meanwhile);
    for (int value = 0; value < 256; value += 51) {
        memset(c->bytes, value, c->size);
        run_damaged(c, &ends);
        load_damaged(c, value & 1, &ends);
    }
    memcpy(c->bytes, good, c->size);
    say_tally("all bytes alike", &ends);
    ACCEPTED(run(c));
    free(good);
}

/* A good file for float32 alone. */
void float_only(const char *name) {
    sqz_file file;
    sqz_model model;
    sqz_options options = {0, 1, NULL};
    uint8_t memory[64];
    size_t size;
    uint8_t *bytes = read_file(name, &size);
    ACCEPTED(sqz_open(&file, bytes, size));
    reader *r = open_reader(&file);
    for (options.streamed = 0; options.streamed < 2; options.streamed++) {
        IS_ZERO(sqz_model_size(&file, &options));
        expect("sqz_load: a file of codebooks",
               sqz_load(&model, &file, &options, memory, sizeof memory), SQZ_FLOAT_ONLY);
        IS_ZERO(sqz_arena_size(&model));
    }
    if (r->layer.representation == SQZ_CODEBOOK) {
        expect("sqz_decode_channel: codes as levels",
               sqz_decode_channel(&r->decoder, r->levels, &r->info), SQZ_UNSUPPORTED);
        ACCEPTED(sqz_decode_codes(&r->decoder, r->codes, &r->info));
    }
    /* WEIGHTS cut off at every length: an error, and then no more calls are accepted. */
    sqz_bytes whole = file.weights;
    for (file.weights.size = 1; file.weights.size < whole.size; file.weights.size++) {
        sqz_error error = sqz_decode_begin(&r->decoder, &file);
        for (uint32_t i = 0; !error && i < file.num_operations; i++) {
            if (r->ops[i].kind != SQZ_CONVOLUTION) continue;
            error = sqz_decode_layer(&r->decoder, &r->ops[i], &r->layer);
            for (uint32_t k = 0; !error && k < r->ops[i].out_channels; k++)
                error = sqz_decode_codes(&r->decoder, r->codes, &r->info);
        }
        if (!error) error = sqz_decode_end(&r->decoder);
        if (error != SQZ_MALFORMED) expect("WEIGHTS cut off", error, SQZ_MALFORMED);
    }
    REFUSED(sqz_decode_codes(&r->decoder, r->codes, &r->info));
    REFUSED(sqz_decode_end(&r->decoder));
    close_reader(r);
    free(bytes);
}

/* An encoder without enough room for its output. */
static void full_output(void) {
    static sqz_contexts contexts;
    sqz_coder coder;
    uint8_t out[5] = {0, 0, 0, 0, 77};
    sqz_coder_write(&coder, &contexts, out, 4);
    for (unsigned i = 0; i < 100; i++) sqz_plain(&coder, 1, 8, 77 * i);
    say("an encoder without room", "overflow", coder.overflow && out[4] == 77);
}

/* Extreme numbers of good files. */
void limits(void) {
    enum { SIDE = 1 << 13 };
    const size_t count = (size_t)SIDE * SIDE / 2;
    sqz_input_quant quant = {{65536, 0, 0}, {INT32_MIN, 0, 0}, {0, 0, 0}, 1};
    sqz_channel_units units = {&quant, 0, 0x3f80, 0, 1, 0};
    sqz_layer layer;
    sqz_channel_info info = {4000, 0, 0};
    sqz_block block;
    int8_t *levels = exactly(count);
    memset(&layer, 0, sizeof layer);
    memset(levels, 127, count);
    layer.representation = SQZ_LEVELS;
    layer.inputs = 1;
    layer.kernel_height = SIDE;
    layer.kernel_width = SIDE / 2;
    IS_LIMIT(sqz_channel_parameters(&units, &layer, &info, levels, &block, 0));
    free(levels);
    full_output();
}
