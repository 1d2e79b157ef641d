/* libFuzzer targets, one per stage. The stage is chosen when compiling:
 *   clang -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all -DSQZ_NO_CHECKSUMS
 *         -DTARGET=target_file *.c ../src/sqz_*.c ../kernels/sqz_*.c -o fuzz_file
 * Targets: target_header, target_graph, target_decoder, target_file, target_run. */
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"

#ifndef TARGET
#define TARGET target_file
#endif

enum {
    MAX_DECODED = 1 << 20, /* weights of a file that is decoded */
    MAX_RUN = 1 << 15,     /* weights, and multiply-accumulates, of what is run */
    MAX_ARENA = 1 << 21,
    MAX_CLASSES = 1 << 10
};

static sqz_error decode(const sqz_file *file, const sqz_operation *ops) {
    static sqz_decoder decoder;
    static sqz_layer layer;
    static int16_t row[MAX_DECODED];
    sqz_error error = sqz_decode_begin(&decoder, file);
    for (uint32_t i = 0; !error && i < file->num_operations; i++) {
        if (ops[i].kind != SQZ_CONVOLUTION) continue;
        error = sqz_decode_layer(&decoder, &ops[i], &layer);
        for (uint32_t o = 0; !error && o < ops[i].out_channels; o++) {
            sqz_channel_info channel;
            if (layer.representation == SQZ_LEVELS && o % 2)
                error = sqz_decode_channel(&decoder, (int8_t *)row, &channel);
            else error = sqz_decode_codes(&decoder, row, &channel);
        }
    }
    return error ? error : sqz_decode_end(&decoder);
}

static int target_header(const uint8_t *data, size_t size) {
    sqz_file file;
    sqz_open(&file, data, size);
    return 0;
}

/* The bytes are the graph of a file whose other parts are good. */
static int target_graph(const uint8_t *data, size_t size) {
    static sqz_tensor tensors[4096];
    static sqz_operation ops[4096];
    sqz_file file;
    if (size < 20) return 0;
    memset(&file, 0, sizeof file);
    file.input.channels = 1;
    file.input.crop_height = data[0];
    file.input.crop_width = data[1];
    memcpy(&file.num_weights, data + 2, 4);
    memcpy(&file.largest_channel, data + 6, 4);
    memcpy(&file.peak_activations, data + 10, 4);
    file.num_tensors = 1 + data[14];
    file.num_operations = 1 + data[15];
    file.graph.bytes = data + 16;
    file.graph.size = (uint32_t)size - 16;
    sqz_read_graph(&file, tensors, 4096, ops, 4096);
    return 0;
}

/* The bytes are the weights of two layers whose shapes the first bytes choose. */
static int target_decoder(const uint8_t *data, size_t size) {
    sqz_operation ops[2];
    sqz_file file;
    if (size < 10) return 0;
    memset(&file, 0, sizeof file);
    memset(ops, 0, sizeof ops);
    for (int i = 0; i < 2; i++) {
        ops[i].kind = SQZ_CONVOLUTION;
        ops[i].inputs = 1 + data[4 * i] * (data[4 * i + 1] & 7u);
        ops[i].out_channels = 1 + (data[4 * i + 1] >> 3);
        ops[i].kernel_height = 1 + (data[4 * i + 2] & 7);
        ops[i].kernel_width = 1 + (data[4 * i + 3] & 7);
        file.num_weights +=
            ops[i].inputs * ops[i].out_channels * ops[i].kernel_height * ops[i].kernel_width;
    }
    file.num_operations = 2;
    file.weights.bytes = data + 8;
    file.weights.size = (uint32_t)size - 8;
    decode(&file, ops);
    static sqz_decoder decoder;
    static char text[4096];
    size_t length;
    sqz_decode_text(&decoder, file.weights, text, sizeof text, &length);
    return 0;
}

static int target_file(const uint8_t *data, size_t size) {
    const sqz_tensor *tensors;
    const sqz_operation *ops;
    sqz_file file;
    if (sqz_open(&file, data, size) || !graph_of(&file, &tensors, &ops)) return 0;
    if (file.num_weights <= MAX_DECODED) decode(&file, ops);
    return 0;
}

/* Whether a network is small enough to run thousands of times per second. */
static int is_small(const sqz_file *file) {
    const sqz_tensor *tensors;
    const sqz_operation *ops;
    uint64_t macs = 0;
    if (file->num_weights > MAX_RUN || !graph_of(file, &tensors, &ops)) return 0;
    for (uint32_t i = 0; i < file->num_operations; i++) {
        const sqz_tensor *target = &tensors[ops[i].target];
        uint64_t window = (uint64_t)ops[i].kernel_height * ops[i].kernel_width;
        if (ops[i].kind == SQZ_CONVOLUTION) window *= (uint64_t)ops[i].inputs * ops[i].out_channels;
        else window *= target->channels;
        macs += window * target->height * target->width;
        if (macs > MAX_RUN) return 0;
    }
    return 1;
}

/* An sqz_parallel that runs the last task first: the order must not matter. */
static void backwards(void *user, void (*task)(void *argument, unsigned i), void *argument,
                      unsigned count) {
    (void)user;
    while (count-- > 0) task(argument, count);
}

/* The result of running a file in one mode; not `done` if it was too large to be tried. */
typedef struct {
    int done;
    sqz_error error;
    uint32_t num_classes;
    int32_t logits[MAX_CLASSES];
} outcome;

/* Memory of exactly that size, so that a sanitizer detects accesses beyond it; of any alignment. */
static uint8_t *memory_of(size_t bytes, unsigned misfit, void **whole) {
    *whole = malloc(bytes + misfit);
    return *whole == NULL ? NULL : (uint8_t *)*whole + misfit;
}

/* sqz_classify must have the logits that sqz_run has of what sqz_crop makes of the picture. */
static void run_model(const sqz_model *m, const sqz_image *image, unsigned misfit, outcome *out) {
    static sqz_answer answers[MAX_CLASSES];
    const sqz_input *input = &m->file.input;
    void *whole, *whole_scratch;
    sqz_context context;
    size_t room = checked_classify_size(m, image), scratch = sqz_crop_scratch(&m->file, image);
    if (m->num_classes > MAX_CLASSES || room == 0 || room > MAX_ARENA) return;
    uint8_t *arena = memory_of(room, misfit, &whole);
    uint8_t *scratch_memory = memory_of(scratch, misfit, &whole_scratch);
    uint8_t *pixels = malloc((size_t)input->crop_height * input->crop_width * 3);
    if (arena != NULL && scratch_memory != NULL && pixels != NULL) {
        require(sqz_start(&context, m, arena, sqz_arena_size(m) - 1) == SQZ_WRONG_USE,
                "sqz_start refuses an arena that is a byte short");
        require(sqz_start(&context, m, arena, room) == SQZ_OK, "sqz_start takes its arena");
        context.parallel = backwards;
        out->done = 1;
        out->num_classes = m->num_classes;
        out->error = sqz_classify(&context, image, answers, m->num_classes);
        require(sqz_crop(&m->file, image, pixels, scratch_memory, scratch) == SQZ_OK,
                "sqz_crop crops");
        sqz_error error = sqz_run(&context, pixels, out->logits, m->num_classes);
        require(error == out->error, "sqz_run ends as sqz_classify does");
        for (uint32_t i = 0; !error && i < m->num_classes; i++)
            require(answers[i].label < m->num_classes &&
                        answers[i].logit == out->logits[answers[i].label],
                    "sqz_classify has the logits of sqz_run");
    }
    free(pixels), free(whole_scratch), free(whole);
}

/* From the file to the logits, in memory of exactly the required size. */
static void run_file(const sqz_file *file, const sqz_options *options, const sqz_image *image,
                     unsigned misfit, outcome *out) {
    static const sqz_image pictures[] = {{(const uint8_t *)"", 1, 1, 3},
                                         {(const uint8_t *)"", 1, 1 << 24, 3 << 24},
                                         {(const uint8_t *)"", 1 << 24, 1 << 24, 3 << 24},
                                         {(const uint8_t *)"", 65535, 3, 9},
                                         {(const uint8_t *)"", 1 << 28, 1 << 30, SIZE_MAX}};
    sqz_model model;
    void *whole;
    size_t need = checked_model_size(file, options);
    if (!need || need > MAX_MEMORY || (!options->streamed && file->num_weights > MAX_RUN)) return;
    uint8_t *memory = memory_of(need, misfit, &whole);
    if (memory == NULL) return;
    require(sqz_load(&model, file, options, memory, need - 1) == SQZ_WRONG_USE,
            "sqz_load refuses memory that is a byte short");
    out->error = sqz_load(&model, file, options, memory, need);
    out->done = out->error != SQZ_OK;
    if (!out->error) {
        check_arena(&model);
        for (unsigned i = 0; i < sizeof pictures / sizeof *pictures; i++)
            checked_classify_size(&model, &pictures[i]);
        if (is_small(file)) run_model(&model, image, misfit, out);
    }
    free(whole);
}

/* The last byte selects a mode to run the file in. Then it is run in another mode, which must
 * agree. The picture is made of the file's own bytes. */
static int target_run(const uint8_t *data, size_t size) {
    static outcome chosen, other;
    static uint8_t rgb[3 * 8 * 8];
    sqz_file file;
    if (size < 2) return 0;
    unsigned choice = data[--size], misfit = choice >> 5;
    sqz_options options = {(int)(choice & 1), 1 + (choice >> 1 & 3), NULL};
    unsigned n = choice >> 3 & 3;
    while (options.kernels == NULL) options.kernels = sqz_kernels_here(n--);
    if (sqz_open(&file, data, size)) return 0;
    for (size_t i = 0; i < sizeof rgb; i++) rgb[i] = data[size - 1 - i % size];
    sqz_image image = {rgb, 1 + data[size / 2] % 8u, 1 + data[size / 3] % 8u, 0};
    image.stride = 3 * (size_t)image.width;
    sqz_options portable = {!options.streamed, 1, &sqz_portable};
    chosen.done = other.done = 0;
    run_file(&file, &options, &image, misfit, &chosen);
    run_file(&file, &portable, &image, 0, &other);
    /* One mode may need more than the limits allow. */
    if (!chosen.done || !other.done || chosen.error == SQZ_LIMIT || other.error == SQZ_LIMIT)
        return 0;
    require(!chosen.error == !other.error, "loaded or streamed, a file is good or it is not");
    require(chosen.error ||
                !memcmp(chosen.logits, other.logits, chosen.num_classes * sizeof *chosen.logits),
            "all modes have the same logits");
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size > UINT32_MAX) return 0;
    (void)target_header, (void)target_graph, (void)target_decoder, (void)target_file;
    (void)target_run;
    return TARGET(data, size);
}

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t room);

/* Random changes of bytes rarely make another good network. So most files are changed as
 * networks. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t room, unsigned seed) {
    int (*target)(const uint8_t *, size_t) = TARGET;
    size_t num_extra = target == target_run; /* the byte that selects the mode */
    if ((target == target_run || target == target_file) && seed % 4 && size > 1 && room > size) {
        uint8_t choice = (uint8_t)(seed % 8 < 4 ? seed >> 8 : data[size - 1]);
        size_t other = other_network(data, size - num_extra, room - num_extra, seed);
        if (other && num_extra) data[other] = choice;
        if (other) return other + num_extra;
    }
    return LLVMFuzzerMutate(data, size, room);
}
