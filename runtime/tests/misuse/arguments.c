/* Wrong arguments: NULL, too little memory, impossible pictures, calls in the wrong order. */
#include "misuse.h"

void null_pointers(client *c) {
    const size_t n = SQZ_MAX_STEPS;
    size_t length;
    char text[8];
    sqz_file file;
    sqz_model model;
    sqz_context context;
    sqz_bytes none = {NULL, 9};
    reader *r = open_reader(&c->file);
    REFUSED(sqz_open(NULL, c->bytes, c->size));
    REFUSED(sqz_open(&file, NULL, c->size));
    REFUSED(sqz_read_graph(NULL, r->tensors, n, r->ops, n));
    REFUSED(sqz_read_graph(&c->file, NULL, n, r->ops, n));
    REFUSED(sqz_read_graph(&c->file, r->tensors, n, NULL, n));
    REFUSED(sqz_decode_layer(NULL, r->op, &r->layer));
    REFUSED(sqz_decode_layer(&r->decoder, NULL, &r->layer));
    REFUSED(sqz_decode_layer(&r->decoder, r->op, NULL));
    REFUSED(sqz_decode_channel(NULL, r->levels, &r->info));
    REFUSED(sqz_decode_channel(&r->decoder, NULL, &r->info));
    REFUSED(sqz_decode_channel(&r->decoder, r->levels, NULL));
    REFUSED(sqz_decode_codes(NULL, r->codes, &r->info));
    REFUSED(sqz_decode_codes(&r->decoder, NULL, &r->info));
    REFUSED(sqz_decode_codes(&r->decoder, r->codes, NULL));
    REFUSED(sqz_decode_end(NULL));
    REFUSED(sqz_decode_text(NULL, c->file.record, text, sizeof text, &length));
    REFUSED(sqz_decode_text(&r->decoder, none, text, sizeof text, &length));
    REFUSED(sqz_decode_text(&r->decoder, c->file.record, NULL, 1, &length));
    REFUSED(sqz_decode_text(&r->decoder, c->file.record, text, sizeof text, NULL));
    ACCEPTED(sqz_decode_text(&r->decoder, c->file.record, NULL, 0, &length));
    REFUSED(sqz_decode_begin(NULL, &c->file));
    REFUSED(sqz_decode_begin(&r->decoder, NULL));
    IS_ZERO(sqz_model_size(NULL, &c->options));
    IS_ZERO(sqz_model_size(&c->file, NULL));
    REFUSED(sqz_load(NULL, &c->file, &c->options, c->memory, c->need));
    REFUSED(sqz_load(&model, NULL, &c->options, c->memory, c->need));
    REFUSED(sqz_load(&model, &c->file, NULL, c->memory, c->need));
    REFUSED(sqz_load(&model, &c->file, &c->options, NULL, c->need));
    IS_ZERO(sqz_arena_size(NULL));
    REFUSED(sqz_start(NULL, &c->model, c->arena, c->room));
    REFUSED(sqz_start(&context, NULL, c->arena, c->room));
    REFUSED(sqz_start(&context, &c->model, NULL, c->room));
    REFUSED(sqz_run(NULL, c->pixels, c->logits, c->num_classes));
    REFUSED(sqz_run(&c->context, NULL, c->logits, c->num_classes));
    REFUSED(sqz_run(&c->context, c->pixels, NULL, c->num_classes));
    IS_ZERO(sqz_crop_scratch(NULL, &c->image));
    IS_ZERO(sqz_crop_scratch(&c->file, NULL));
    REFUSED(sqz_crop(NULL, &c->image, c->pixels, c->scratch, c->scratch_size));
    REFUSED(sqz_crop(&c->file, NULL, c->pixels, c->scratch, c->scratch_size));
    REFUSED(sqz_crop(&c->file, &c->image, NULL, c->scratch, c->scratch_size));
    REFUSED(sqz_crop(&c->file, &c->image, c->pixels, NULL, c->scratch_size));
    IS_ZERO(sqz_classify_size(NULL, &c->image));
    IS_ZERO(sqz_classify_size(&c->model, NULL));
    REFUSED(sqz_classify(NULL, &c->image, c->answers, 1));
    REFUSED(sqz_classify(&c->context, NULL, c->answers, 1));
    REFUSED(sqz_classify(&c->context, &c->image, NULL, 1));
    say("sqz_kernels_name(NULL)", sqz_kernels_name(NULL), sqz_kernels_name(NULL) != NULL);
    say("sqz_kernels_here(1000000)", "NULL", sqz_kernels_here(1000000) == NULL);
    say("sqz_error_text of no error", sqz_error_text((sqz_error)77), 1);
    ACCEPTED(run(c));
    close_reader(r);
}

void too_little_room(client *c) {
    sqz_file file;
    sqz_model model;
    sqz_context context;
    reader *r = open_reader(&c->file);
    const size_t t = c->file.num_tensors, o = c->file.num_operations, k = c->num_classes;
    expect("sqz_open: no bytes", sqz_open(&file, c->bytes, 0), SQZ_UNKNOWN_FORMAT);
    expect("sqz_open: a byte less", sqz_open(&file, c->bytes, c->size - 1), SQZ_TRUNCATED);
    /* The size in the header is checked before anything beyond it is read. */
    expect("sqz_open: a byte more", sqz_open(&file, c->bytes, c->size + 1), SQZ_MALFORMED);
    expect("sqz_open: SIZE_MAX", sqz_open(&file, c->bytes, SIZE_MAX), SQZ_MALFORMED);
    REFUSED(sqz_read_graph(&c->file, r->tensors, t - 1, r->ops, o));
    REFUSED(sqz_read_graph(&c->file, r->tensors, t, r->ops, o - 1));
    REFUSED(sqz_load(&model, &c->file, &c->options, c->memory, c->need - 1));
    REFUSED(sqz_load(&model, &c->file, &c->options, c->memory, 0));
    REFUSED(sqz_start(&context, &c->model, c->arena, sqz_arena_size(&c->model) - 1));
    REFUSED(sqz_start(&context, &c->model, c->arena, 0));
    REFUSED(sqz_crop(&c->file, &c->image, c->pixels, c->scratch, c->scratch_size - 1));
    REFUSED(sqz_crop(&c->file, &c->image, c->pixels, c->scratch, 0));
    REFUSED(sqz_run(&c->context, c->pixels, c->logits, k - 1));
    REFUSED(sqz_run(&c->context, c->pixels, c->logits, 0));
    REFUSED(sqz_classify(&c->context, &c->image, c->answers, 0));
    REFUSED(sqz_classify(&c->context, &c->image, c->answers, k + 1));
    REFUSED(sqz_classify(&c->context, &c->image, c->answers, SIZE_MAX));
    sqz_image large = {exactly(3 * 999 * 999), 999, 999, 3 * 999};
    size_t more = sqz_classify_size(&c->model, &large);
    void *arena = exactly(more);
    ACCEPTED(sqz_start(&context, &c->model, arena, more - 1));
    expect("sqz_classify: an arena a byte short of a large picture",
           sqz_classify(&context, &large, c->answers, 1),
           more > sqz_arena_size(&c->model) ? SQZ_WRONG_USE : SQZ_OK);
    ACCEPTED(sqz_start(&context, &c->model, arena, more));
    ACCEPTED(sqz_classify(&context, &large, c->answers, 1));
    free(arena), free((void *)large.rgb);
    ACCEPTED(run(c));
    close_reader(r);
}

void pictures(client *c) {
    static const struct {
        const char *name;
        sqz_error expected;
        uint32_t height, width;
        size_t stride;
        int no_pixels;
    } cases[] = {
        {"no pixels", SQZ_WRONG_USE, 7, 5, 15, 1},
        {"no rows", SQZ_WRONG_USE, 0, 5, 15, 0},
        {"no columns", SQZ_WRONG_USE, 7, 0, 15, 0},
        {"neither", SQZ_WRONG_USE, 0, 0, 0, 0},
        {"a stride a byte short", SQZ_WRONG_USE, 7, 5, 14, 0},
        {"a stride of 0", SQZ_WRONG_USE, 7, 5, 0, 0},
        {"2^24 + 1 rows", SQZ_LIMIT, (1 << 24) + 1, 1, 3, 0},
        {"2^24 + 1 columns", SQZ_LIMIT, 1, (1 << 24) + 1, SIZE_MAX, 0},
        {"2^32 - 1 rows and columns", SQZ_LIMIT, UINT32_MAX, UINT32_MAX, SIZE_MAX, 0},
        {"columns of which three times are 2^32 + 2", SQZ_LIMIT, 1, 0x55555556u, SIZE_MAX, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        sqz_image image = {cases[i].no_pixels ? NULL : c->image.rgb, cases[i].height,
                           cases[i].width, cases[i].stride};
        say(cases[i].name, "", 1);
        IS_ZERO(sqz_crop_scratch(&c->file, &image));
        IS_ZERO(sqz_classify_size(&c->model, &image));
        expect("sqz_crop", sqz_crop(&c->file, &image, c->pixels, c->scratch, c->scratch_size),
               cases[i].expected);
        expect("sqz_classify", sqz_classify(&c->context, &image, c->answers, 1), cases[i].expected);
    }
    /* The largest picture: only its sizes, since no machine has that many bytes. */
    sqz_image most = {c->image.rgb, 1 << 24, 1 << 24, 3 << 24};
    size_t scratch = sqz_crop_scratch(&c->file, &most), arena = sqz_classify_size(&c->model, &most);
    say("2^24 rows and columns need scratch", scratch ? "some" : "none", scratch > 1 << 24);
    say("and an arena", arena ? "some" : "none", arena > scratch);
    REFUSED(sqz_crop(&c->file, &most, c->pixels, c->scratch, c->scratch_size));
    if (arena > c->room) REFUSED(sqz_classify(&c->context, &most, c->answers, 1));
    ACCEPTED(run(c));
}

/* Structs that are zero, or that a failed call has left, are refused. */
void wrong_order(client *c) {
    sqz_file file;
    sqz_model model;
    sqz_context context;
    reader *r = open_reader(&c->file);
    say("all zeros", "", 1);
    memset(&file, 0, sizeof file);
    memset(&model, 0, sizeof model);
    memset(&context, 0, sizeof context);
    for (int failed = 0; failed < 2; failed++) {
        REFUSED(sqz_read_graph(&file, r->tensors, SQZ_MAX_STEPS, r->ops, SQZ_MAX_STEPS));
        IS_ZERO(sqz_model_size(&file, &c->options));
        REFUSED(sqz_load(&model, &file, &c->options, c->memory, c->need));
        IS_ZERO(sqz_crop_scratch(&file, &c->image));
        REFUSED(sqz_crop(&file, &c->image, c->pixels, c->scratch, c->scratch_size));
        IS_ZERO(sqz_arena_size(&model));
        IS_ZERO(sqz_classify_size(&model, &c->image));
        REFUSED(sqz_start(&context, &model, c->arena, c->room));
        REFUSED(sqz_run(&context, c->pixels, c->logits, c->num_classes));
        REFUSED(sqz_classify(&context, &c->image, c->answers, 1));
        if (failed) break;
        say("arbitrary bytes, and then a failed call", "", 1);
        memset(&file, 0xa5, sizeof file);
        memset(&model, 0xa5, sizeof model);
        memset(&context, 0xa5, sizeof context);
        sqz_open(&file, c->bytes, c->size - 1);
    }
    sqz_file half = c->file; /* sqz_load detects it last */
    half.weights.size /= 2;
    expect("sqz_load: half of the weights",
           sqz_load(&model, &half, &c->options, c->memory, c->need), SQZ_MALFORMED);
    REFUSED(sqz_start(&context, &model, c->arena, c->room));
    REFUSED(sqz_run(&context, c->pixels, c->logits, c->num_classes));

    say("the decoder", "", 1);
    memset(&r->decoder, 0, sizeof r->decoder);
    for (int failed = 0; failed < 3; failed++) {
        REFUSED(sqz_decode_layer(&r->decoder, r->op, &r->layer));
        REFUSED(sqz_decode_channel(&r->decoder, r->levels, &r->info));
        REFUSED(sqz_decode_codes(&r->decoder, r->codes, &r->info));
        REFUSED(sqz_decode_end(&r->decoder));
        memset(&r->decoder, 0xa5, sizeof r->decoder);
        if (failed == 0) REFUSED(sqz_decode_begin(&r->decoder, &file));
        if (failed == 1) {
            sqz_file other = c->file;
            other.weights.size = 0;
            expect("sqz_decode_begin: nothing", sqz_decode_begin(&r->decoder, &other),
                   SQZ_MALFORMED);
        }
    }
    ACCEPTED(sqz_decode_begin(&r->decoder, &c->file));
    REFUSED(sqz_decode_end(&r->decoder));
    REFUSED(sqz_decode_channel(&r->decoder, r->levels, &r->info));
    sqz_operation other = *r->op;
    other.inputs = other.kernel_height = 0x80000000u;
    other.kernel_width = 4;
    REFUSED(sqz_decode_layer(&r->decoder, &other, &r->layer));
    other = *r->op;
    other.inputs = 0;
    REFUSED(sqz_decode_layer(&r->decoder, &other, &r->layer));
    other.inputs = 1u << 28;
    other.kernel_height = other.kernel_width = 1;
    REFUSED(sqz_decode_layer(&r->decoder, &other, &r->layer));
    other = *r->op;
    other.out_channels = 0;
    REFUSED(sqz_decode_layer(&r->decoder, &other, &r->layer));
    other = *r->op;
    other.kind = SQZ_ADD;
    REFUSED(sqz_decode_layer(&r->decoder, &other, &r->layer));
    ACCEPTED(sqz_decode_layer(&r->decoder, r->op, &r->layer));
    REFUSED(sqz_decode_layer(&r->decoder, r->op, &r->layer));
    REFUSED(sqz_decode_end(&r->decoder));
    for (uint32_t i = 0; i < r->op->out_channels; i++)
        if (sqz_decode_channel(&r->decoder, r->levels, &r->info))
            say("sqz_decode_channel", "an error", 0);
    REFUSED(sqz_decode_channel(&r->decoder, r->levels, &r->info));
    size_t length;
    ACCEPTED(sqz_decode_text(&r->decoder, c->file.record, NULL, 0, &length));
    REFUSED(sqz_decode_layer(&r->decoder, r->op, &r->layer));
    ACCEPTED(run(c));
    close_reader(r);
}

/* An sqz_parallel that a single thread must not call. */
static void never(void *user, void (*task)(void *argument, unsigned i), void *argument,
                  unsigned count) {
    (void)user, (void)task, (void)argument, (void)count;
    say("sqz_parallel with one thread", "called", 0);
}

void wrong_options(client *c) {
    const sqz_kernels copy = sqz_portable;
    sqz_model model;
    sqz_options options = c->options;
    void *junk = exactly(sizeof(sqz_kernels));
    options.threads = 65;
    IS_ZERO(sqz_model_size(&c->file, &options));
    REFUSED(sqz_load(&model, &c->file, &options, c->memory, c->need));
    options.threads = UINT32_MAX;
    REFUSED(sqz_load(&model, &c->file, &options, c->memory, c->need));
    options.threads = 1;
    say("kernels that are not in the list", "", 1);
    const void *inside = (const char *)&sqz_portable + sizeof(void *);
    const sqz_kernels *wrong[] = {&copy, junk, (const sqz_kernels *)(uintptr_t)64, inside};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        options.kernels = wrong[i];
        IS_ZERO(sqz_model_size(&c->file, &options));
        REFUSED(sqz_load(&model, &c->file, &options, c->memory, c->need));
    }
    free(junk);
    stop(c);
    start(c, 2, 0); /* any number except 0 streams, and 0 threads mean one */
    c->context.parallel = never;
    ACCEPTED(run(c));
}

/* Memory may have any alignment. */
void addresses(client *c) {
    int good = 1;
    for (int streamed = 0; streamed < 2; streamed++)
        for (size_t off = 0; off <= 64; off++) {
            sqz_file file;
            sqz_model model;
            sqz_context context;
            sqz_options options = {streamed, 1, NULL};
            uint8_t *bytes = exactly(c->size + off), *scratch = exactly(c->scratch_size + off);
            memcpy(bytes + off, c->bytes, c->size);
            good &= !sqz_open(&file, bytes + off, c->size);
            size_t need = sqz_model_size(&file, &options);
            uint8_t *memory = exactly(need + off);
            good &= !sqz_load(&model, &file, &options, memory + off, need);
            size_t room = sqz_arena_size(&model);
            uint8_t *arena = exactly(room + off);
            good &= !sqz_start(&context, &model, arena + off, room);
            good &= !sqz_crop(&file, &c->image, c->pixels, scratch + off, c->scratch_size);
            good &= !sqz_run(&context, c->pixels, c->logits, c->num_classes);
            good &= !memcmp(c->logits, c->expected, c->num_classes * sizeof *c->logits);
            free(arena), free(memory), free(scratch), free(bytes);
        }
    say("file, memory, arena and scratch 0 .. 64 bytes after an alignment", "the same logits",
        good);
}
