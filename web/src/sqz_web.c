/* The runtime as a WebAssembly module without imports, for ../sqz.js. Builds with threads
 * import their memory, which they share with their threads.
 *
 * One model per instance. Its memory holds, from the heap's base on, the file, the unpacked model,
 * and then what one picture needs: its pixels and the arena. The memory grows as needed, and never
 * shrinks. */
#include <string.h>

#include "../../runtime/sqz.h"
#include "sqz_threads.h"

#define EXPORT(name) __attribute__((export_name(#name)))
#define PAGE 65536u /* bytes */

extern unsigned char __heap_base; /* by the linker: what follows is free */

static sqz_file file;
static sqz_model model;
static sqz_context context;
static size_t model_end;
static sqz_image image;
static uint8_t *arena;
static size_t arena_size;
static sqz_answer answers[1000];

/* Make the memory reach to `end`; returns 0 if it cannot. */
static int reach(uint64_t end) {
    uint64_t have = (uint64_t)__builtin_wasm_memory_size(0) * PAGE;
    if (end <= have) return 1;
    if (end > UINT32_MAX) return 0;
    size_t pages = (size_t)((end - have + PAGE - 1) / PAGE);
    return __builtin_wasm_memory_grow(0, pages) != (size_t)-1;
}

static size_t round_up(size_t size) { return (size + 63) / 64 * 64; }

/* Return where to put a file of `size` bytes, NULL for too little memory. */
EXPORT(reserve) uint8_t *reserve(size_t size) {
    memset(&model, 0, sizeof model);
    memset(&context, 0, sizeof context);
    model_end = round_up((size_t)&__heap_base + size);
    return reach(model_end) ? &__heap_base : NULL;
}

#if defined(__wasm_atomics__)
static unsigned num_threads;

/* Before `load`: how many threads will compute, the caller's included. */
EXPORT(set_threads) void set_threads(unsigned count) { num_threads = count; }
#endif

/* Load the file of `size` bytes that was put there. `kernels`: as for sqz_kernels_here; those
 * after the last are the last. Returns an sqz_error, or -1 for too little memory. */
EXPORT(load) int load(size_t size, unsigned kernels) {
    sqz_options options = {0};
#if defined(__wasm_atomics__)
    options.threads = num_threads;
#endif
    sqz_error error = sqz_open(&file, &__heap_base, size);
    if (error) return error;
    do options.kernels = sqz_kernels_here(kernels);
    while (options.kernels == NULL && kernels-- > 0);
    size_t start = round_up((size_t)&__heap_base + size), needed = sqz_model_size(&file, &options);
    if (!reach((uint64_t)start + needed)) return -1;
    error = sqz_load(&model, &file, &options, (void *)start, needed);
    model_end = round_up(start + needed);
    return error;
}

/* Facts about the loaded model, for the caller to read. */
typedef struct {
    uint32_t num_classes, crop_height, crop_width, channels, resize, memory, arena;
} facts;

EXPORT(about) const facts *about(void) {
    static facts found;
    const sqz_input *input = &file.input;
    found = (facts){model.num_classes,
                    input->crop_height,
                    input->crop_width,
                    input->channels ? 3 : 1,
                    input->resize,
                    (uint32_t)(model_end - (size_t)&__heap_base),
                    (uint32_t)sqz_arena_size(&model)};
    return &found;
}

EXPORT(kernels_name) const char *kernels_name(void) {
    return sqz_kernels_name(model.options.kernels);
}

/* ---- Texts ---- */

static char *text;
static size_t text_length;

/* Decode the names of the classes (`record` 0) or the record (1) to `*text`, behind the model. */
EXPORT(read_text) int read_text(int record) {
    static sqz_decoder decoder;
    sqz_bytes from = record ? file.record : file.labels;
    if (from.bytes == NULL) return SQZ_WRONG_USE;
    if (!record) from.bytes++, from.size--;
    sqz_error error = sqz_decode_text(&decoder, from, NULL, 0, &text_length);
    if (error) return error;
    text = (char *)model_end;
    if (!reach((uint64_t)model_end + text_length)) return -1;
    return sqz_decode_text(&decoder, from, text, text_length, &text_length);
}

EXPORT(text_start) const char *text_start(void) { return text; }
EXPORT(text_size) size_t text_size(void) { return text_length; }
/* Kind of the ids that follow the names: spec/FORMAT.md, "LABELS". */
EXPORT(ids_kind) int ids_kind(void) { return file.labels.size ? file.labels.bytes[0] : 0; }

/* ---- Pictures ---- */

/* Make room for a picture; returns where its RGB bytes go, row after row. NULL: too large. */
EXPORT(picture) uint8_t *picture(uint32_t height, uint32_t width) {
    image = (sqz_image){(const uint8_t *)model_end, height, width, (size_t)3 * width};
    uint64_t bytes = (uint64_t)height * width * 3, needed = 0;
    if (bytes < UINT32_MAX) needed = sqz_classify_size(&model, &image);
    if (!needed) return NULL;
    arena = (uint8_t *)round_up(model_end + (size_t)bytes);
    arena_size = (size_t)needed;
    if ((uint64_t)model_end + bytes + needed + 64 > UINT32_MAX) return NULL;
    if (!reach((uint64_t)(size_t)arena + needed)) return NULL;
    return (uint8_t *)model_end;
}

/* Turn RGBA of 4 * `count` bytes at `from` into the RGB of as many pixels of the picture, from
 * pixel `first` on. What is transparent shows white. */
EXPORT(put_rgba) void put_rgba(const uint8_t *from, uint32_t first, uint32_t count) {
    uint8_t *to = (uint8_t *)model_end + (size_t)3 * first;
    for (uint32_t i = 0; i < count; i++, from += 4, to += 3) {
        uint32_t alpha = from[3];
        if (alpha == 255) {
            to[0] = from[0], to[1] = from[1], to[2] = from[2];
        } else {
            for (unsigned c = 0; c < 3; c++)
                to[c] = (uint8_t)((from[c] * alpha + 255 * (255 - alpha) + 127) / 255);
        }
    }
}

/* Where put_rgba may read from: behind the picture and its arena, `bytes` of room. */
EXPORT(scratch) uint8_t *scratch(size_t bytes) {
    uint64_t start = round_up((size_t)arena + arena_size);
    return start + bytes < UINT32_MAX && reach(start + bytes) ? (uint8_t *)(size_t)start : NULL;
}

/* Classify the picture; its `top` best classes, at most 1,000, are at `best`. Returns an sqz_error,
 * or -2 if a thread has ended within its work: then the module must not be used any more. */
EXPORT(classify) int classify(uint32_t top) {
    sqz_error error = sqz_start(&context, &model, arena, arena_size);
    if (error) return error;
#if defined(__wasm_atomics__)
    if (num_threads > 1) context.parallel = sqz_threads_run;
#endif
    error = sqz_classify(&context, &image, answers, top);
#if defined(__wasm_atomics__)
    if (sqz_threads_lost()) return -2;
#endif
    return error;
}

EXPORT(best) const sqz_answer *best(void) { return answers; }
/* Logits of the last picture, in 1/65536. */
EXPORT(logits) const int32_t *logits(void) {
    return (const int32_t *)(const void *)(context.arena + model.logits);
}

/* ---- What the compiler and the runtime take from the standard library ---- */

#if defined(__wasm_bulk_memory__)
void *memcpy(void *to, const void *from, size_t count) {
    return __builtin_memcpy(to, from, count); /* an instruction */
}
void *memmove(void *to, const void *from, size_t count) {
    return __builtin_memmove(to, from, count);
}
void *memset(void *to, int byte, size_t count) { return __builtin_memset(to, byte, count); }
#else
#define NO_CALL __attribute__((optnone)) /* or the loop would become a call of itself */
NO_CALL void *memcpy(void *to, const void *from, size_t count) {
    for (size_t i = 0; i < count; i++) ((uint8_t *)to)[i] = ((const uint8_t *)from)[i];
    return to;
}
NO_CALL void *memmove(void *to, const void *from, size_t count) {
    if ((size_t)to < (size_t)from) return memcpy(to, from, count);
    while (count-- > 0) ((uint8_t *)to)[count] = ((const uint8_t *)from)[count];
    return to;
}
NO_CALL void *memset(void *to, int byte, size_t count) {
    for (size_t i = 0; i < count; i++) ((uint8_t *)to)[i] = (uint8_t)byte;
    return to;
}
#endif
int memcmp(const void *a, const void *b, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (((const uint8_t *)a)[i] != ((const uint8_t *)b)[i])
            return ((const uint8_t *)a)[i] < ((const uint8_t *)b)[i] ? -1 : 1;
    return 0;
}
