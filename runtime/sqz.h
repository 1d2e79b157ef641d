/* sqz: runs .sqz files, image classifiers of a few hundred kilobytes. spec/FORMAT.md defines every
 * byte of a file, spec/INTEGER.md every number that is computed.
 *
 * C99, with no heap, no globals, no floating point, and nothing of the standard library but
 * <string.h>. All memory is the caller's; functions return how much is needed. Any bytes may be
 * given as a file: a damaged or hostile one ends in an error, never in a crash.
 *
 *     sqz_file file;
 *     sqz_error error = sqz_open(&file, bytes, size);              checks all checksums
 *     sqz_options options = {0};
 *     size_t model_size = sqz_model_size(&file, &options);         0: not for integer clients
 *     sqz_model model;
 *     error = sqz_load(&model, &file, &options, memory, model_size);    unpacks the weights
 *     size_t arena_size = sqz_classify_size(&model, &image);
 *     sqz_context context;                                         one per thread of yours
 *     error = sqz_start(&context, &model, arena, arena_size);
 *     sqz_answer best[5];
 *     sqz_image image = {rgb, height, width, 3 * width};           of any size
 *     error = sqz_classify(&context, &image, best, 5);
 *
 * What holds for every function:
 *
 * - Memory that you pass (file, model memory, arena, scratch) may have any alignment. Arrays of
 *   other types than bytes are aligned as C demands.
 * - The file's bytes are borrowed, not copied. They must stay unchanged, in flash or in RAM, while
 *   any sqz_file, sqz_model, sqz_context or sqz_decoder made from them is in use.
 * - A pointer that may be NULL is documented so. Any other NULL is an error, SQZ_WRONG_USE.
 * - After an error, what the function should have filled in is empty or unspecified. sqz_open,
 *   sqz_load and sqz_start leave an empty struct, which every function that takes it refuses with
 *   SQZ_WRONG_USE or 0. You may call again.
 * - Nothing blocks, and nothing is kept between calls but what is in your structs. Threads may
 *   share whatever a function takes as const. One thread at a time may use an sqz_context or an
 *   sqz_decoder.
 * - A call needs less than SQZ_STACK bytes of stack; tests on Cortex-M measure it.
 *
 * Contents: errors, files, models, runs, pictures, the reader (for clients that want the weights
 * alone), and at the end what is internal. */
#ifndef SQZ_H
#define SQZ_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SQZ_STACK 4096 /* bytes */

typedef struct sqz_tensor sqz_tensor;
typedef struct sqz_operation sqz_operation;
typedef struct sqz_decoder sqz_decoder;

/* ---- Errors ---- */

typedef enum {
    SQZ_OK = 0,
    SQZ_UNKNOWN_FORMAT, /* not a .sqz file */
    SQZ_TRUNCATED,      /* shorter than its header says */
    SQZ_CHECKSUM,       /* damaged */
    SQZ_UNSUPPORTED,    /* another version, or something that this reader does not implement */
    SQZ_LIMIT,          /* beyond the limits of the format or of this runtime */
    SQZ_MALFORMED,      /* contradicts the format, although its checksums are right */
    SQZ_FLOAT_ONLY,     /* a good file, but for float32 clients alone */
    SQZ_BUSY,           /* the context is running, in another thread or further up the stack.
                           Detected if the compiler has GCC's atomics; otherwise two threads must
                           not call at once */
    SQZ_WRONG_USE       /* NULL, too little memory, or calls in the wrong order */
} sqz_error;

/* Return one line of English, in static memory; never NULL, for any number. */
const char *sqz_error_text(sqz_error error);

/* ---- Files ---- */

/* A part of the file. */
typedef struct {
    const uint8_t *bytes;
    uint32_t size; /* bytes */
} sqz_bytes;

/* How a picture becomes the input, tensor 0: scale the short side to `resize` pixels, cut the crop
 * from the middle, take the channels, subtract the mean, divide by the deviation. */
typedef struct {
    uint32_t channels;                /* 0 luma, 1 RGB, 2 BGR */
    uint32_t resize;                  /* pixels, 1 to 65,535 */
    uint32_t crop_height, crop_width; /* pixels, 1 to `resize` */
    int32_t mean[3];                  /* per channel, in 1/65536 of a pixel level (0 to 255) */
    int32_t deviation[3];             /* the same, at least 1 */
} sqz_input;

typedef struct {
    uint32_t version;                     /* of the format, 1 or 2 */
    uint32_t num_weights;                 /* of all convolutions, at most 2^27 */
    uint32_t largest_channel;             /* weights of the largest output channel */
    uint32_t peak_activations;            /* elements alive at once, at most 2^28 */
    uint32_t num_tensors, num_operations; /* each 1 to 4,096 */
    sqz_input input;
    sqz_bytes graph, weights, labels, record; /* sections */
    sqz_bytes activations;                    /* `bytes` is NULL in a file for float32 alone */
} sqz_file;

/* Check the header, the section table and all checksums of a file, and find its sections.
 *
 * `size`: of the file in bytes; more than the header says is an error too. Takes time in proportion
 * to `size`. GRAPH, WEIGHTS, ACTIVATIONS, LABELS and RECORD are checked by those who read them.
 *
 * Returns SQZ_OK, SQZ_UNKNOWN_FORMAT, SQZ_TRUNCATED, SQZ_CHECKSUM, SQZ_UNSUPPORTED, SQZ_LIMIT,
 * SQZ_MALFORMED or SQZ_WRONG_USE.
 *
 * Compiled with SQZ_NO_CHECKSUMS, checksums are ignored: for fuzzing, and for files that were
 * checked before. */
sqz_error sqz_open(sqz_file *file, const void *bytes, size_t size);

/* ---- Models: a file that is ready to run ---- */

/* The inner loops for one instruction set. All kernels give the same logits. */
typedef struct sqz_kernels sqz_kernels;

/* Return the n-th of the kernels that run on this processor, the fastest first; NULL after the
 * last, which is "portable". In static memory. */
const sqz_kernels *sqz_kernels_here(unsigned n);
/* Return the kernels for AMX, NULL if this processor has none. They are not among those above, since
 * a process may use AMX only after the system has allowed it; in others they end in a signal. Linux
 * allows it by arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA), for the whole process and from
 * then on: if that returns 0, pass them in sqz_options. In static memory. */
const sqz_kernels *sqz_kernels_amx(void);
/* Return their name, such as "AVX2"; "none" for NULL. In static memory. */
const char *sqz_kernels_name(const sqz_kernels *kernels);

/* {0} is the default: weights unpacked, one thread, the fastest kernels. */
typedef struct {
    int streamed;     /* not 0: leave the weights in the file and unpack them during each run,
                         mostly 16 output channels at a time: less memory, more time */
    unsigned threads; /* tasks per operation for sqz_parallel, at most 64; 0 is 1. The arena grows
                         with it where a max pool follows a convolution */
    const sqz_kernels *kernels; /* one of sqz_kernels_here, or sqz_kernels_amx; NULL: the fastest of
                                   the former */
} sqz_options;

typedef struct sqz_model {
    sqz_file file; /* copies: the arguments of sqz_load may go */
    sqz_options options;
    uint32_t num_classes; /* logits per image */
    /* Internal. */
    struct sqz_place *places;  /* per tensor, where it lies in the arena */
    struct sqz_plan_op *steps; /* the operations, as they are run */
    sqz_tensor *tensors;
    uint32_t num_steps, num_tensors;
    size_t arena;             /* bytes */
    uint32_t logits;          /* offsets in the arena */
    uint32_t decoder, levels; /* the same, if streamed */
} sqz_model;

/* Return the bytes of memory that sqz_load needs.
 *
 * Returns 0 if the file cannot be loaded with these options: sqz_load returns the reason. More than
 * 0 is no promise that it can be. */
size_t sqz_model_size(const sqz_file *file, const sqz_options *options);

/* Make a model of a file: check the graph, lay out the arena and, unless streamed, unpack the
 * weights.
 *
 * `memory`, `size`: at least sqz_model_size bytes; part of the model as long as that is in use.
 * The model does not change afterwards. Any number of contexts and threads may share it.
 *
 * Returns SQZ_OK; SQZ_FLOAT_ONLY if the network is not one of INTEGER.md; SQZ_LIMIT, also for more
 * than 256 tensors or operations; SQZ_MALFORMED; SQZ_UNSUPPORTED for the Huffman coder; or
 * SQZ_WRONG_USE, also for too little memory and for kernels that do not run here. If streamed, the
 * weights are not read here, and their errors are those of sqz_run. */
sqz_error sqz_load(sqz_model *model, const sqz_file *file, const sqz_options *options, void *memory,
                   size_t size);

/* Return the bytes of arena that sqz_run needs: activations and scratch. 0 for no loaded model. */
size_t sqz_arena_size(const sqz_model *model);

/* ---- Runs ---- */

/* What the caller's threads must offer: call task(argument, i) once for each i of 0 .. count - 1,
 * in any order or at once, and return when all calls have returned. `count` is at most
 * options.threads. Each call must see what was written before, and the caller what they write. */
typedef void (*sqz_parallel)(void *user, void (*task)(void *argument, unsigned i), void *argument,
                             unsigned count);

/* One run at a time. */
typedef struct {
    const sqz_model *model;
    uint8_t *arena;
    size_t arena_size;
    sqz_parallel parallel; /* set it after sqz_start, or leave it NULL: one thread */
    void *user;            /* set it with `parallel`, which gets it */
    int busy;              /* internal */
} sqz_context;

/* Begin a context on a model with an arena of `size` bytes, at least sqz_arena_size.
 *
 * The arena belongs to the context as long as that is in use. To end it, forget it.
 * Returns SQZ_OK or SQZ_WRONG_USE. */
sqz_error sqz_start(sqz_context *context, const sqz_model *model, void *arena, size_t size);

/* Compute the logits of one cropped image.
 *
 * `pixels`: crop_height x crop_width x channels bytes, 1 channel or 3 in the order of the file.
 * `logits`: the first num_classes are written, in 1/65536. `num_logits`: room in them, at least
 * num_classes.
 *
 * Returns SQZ_OK, SQZ_BUSY or SQZ_WRONG_USE; of a streamed model also SQZ_MALFORMED,
 * SQZ_UNSUPPORTED, SQZ_FLOAT_ONLY or SQZ_LIMIT, if its weights are not as they should be. */
sqz_error sqz_run(sqz_context *context, const uint8_t *pixels, int32_t *logits, size_t num_logits);

/* ---- Pictures ---- */

/* Rows of RGB bytes. */
typedef struct {
    const uint8_t *rgb;
    uint32_t height, width; /* pixels, 1 to 2^24 each */
    size_t stride;          /* bytes from one row to the next, at least 3 * width */
} sqz_image;

/* Return the bytes of scratch that sqz_crop needs for a picture; 0 if it would refuse it. */
size_t sqz_crop_scratch(const sqz_file *file, const sqz_image *image);

/* Resize and crop a picture into the pixels that sqz_run takes.
 *
 * `scratch`, `size`: at least sqz_crop_scratch bytes, free again afterwards.
 *
 * Returns SQZ_OK; SQZ_LIMIT if a side is above 2^24 pixels, or would be above 2^30 after the
 * resize; or SQZ_WRONG_USE. */
sqz_error sqz_crop(const sqz_file *file, const sqz_image *image, uint8_t *pixels, void *scratch,
                   size_t size);

typedef struct {
    uint32_t label;       /* class, from 0 */
    int32_t logit;        /* in 1/65536 */
    uint32_t probability; /* softmax, in 1/65536; the error is at most 1/4096 */
} sqz_answer;

/* Return the bytes of arena that sqz_classify needs for a picture: sqz_arena_size, or more for a
 * large picture. 0 if the picture or the model is refused. */
size_t sqz_classify_size(const sqz_model *model, const sqz_image *image);

/* Resize, crop and run a picture, and return its `count` best classes, 1 to num_classes, the best
 * first. Of equal logits the lower class comes first.
 *
 * Returns what sqz_run and sqz_crop return. An arena that is too small for the picture is
 * SQZ_WRONG_USE. */
sqz_error sqz_classify(sqz_context *context, const sqz_image *image, sqz_answer *answers,
                       size_t count);

/* ---- The reader: the graph and the weights, for clients of another kind ---- */

struct sqz_tensor {
    uint32_t channels, height, width; /* at least 1 each, at most 2^27 elements */
    uint32_t first, last;             /* operations between which it is alive, both included */
    uint32_t written; /* internal: channels written so far, while the graph is read */
};

typedef enum {
    SQZ_CONVOLUTION = 1,
    SQZ_MAX_POOL,
    SQZ_ADD,
    SQZ_AVERAGE_POOL, /* global */
    SQZ_RESPONSE_NORM /* local response normalisation */
} sqz_kind;

struct sqz_operation {
    sqz_kind kind;
    uint32_t source, target;              /* tensors */
    uint32_t other;                       /* SQZ_ADD: the second source */
    uint32_t target_start;                /* convolution: first channel of the target it writes */
    uint32_t inputs, out_channels;        /* convolution: input channels per group, all outputs */
    uint32_t kernel_height, kernel_width; /* both of a pool; the channels of a response norm */
    uint32_t stride, padding, groups;     /* positions; positions on each side; at least 1 */
    uint32_t relu;                        /* 1: a ReLU follows the convolution */
};

/* Read the tensors (0 is the input) and the operations, in the order in which they run, and check
 * that they make a network: shapes, slices of channels, everything written before it is read. The
 * target of the last operation is the output.
 *
 * `tensors`, `operations`: the first file->num_tensors and file->num_operations are written.
 * `num_tensors`, `num_operations`: room in them.
 *
 * Returns SQZ_OK, SQZ_LIMIT, SQZ_MALFORMED or SQZ_WRONG_USE. */
sqz_error sqz_read_graph(const sqz_file *file, sqz_tensor *tensors, size_t num_tensors,
                         sqz_operation *operations, size_t num_operations);

typedef enum {
    SQZ_CODEBOOK = 0, /* weight = codebook value of its code */
    SQZ_LEVELS = 1    /* weight = level * scale of its output channel */
} sqz_representation;

typedef struct {
    sqz_representation representation;
    uint32_t out_channels, inputs, kernel_height, kernel_width; /* of the operation */
    uint32_t bias_shift;                 /* levels: bias = channel.bias / 2^bias_shift, 0 to 30 */
    uint32_t num_negative, num_positive; /* codebook: together at most 255 */
    uint32_t codebook[255]; /* codebook: bits of float32 values, the negative first and then the
                               positive, each from the smallest magnitude up */
} sqz_layer;

typedef struct {
    uint32_t scale; /* levels: the scale is the float32 whose bits are scale << 18; 1 to 8,159 */
    int32_t bias;   /* levels: see bias_shift; within 2^24 */
    uint32_t float_bias; /* codebook: the bits of a float32 */
} sqz_channel_info;

/* Begin to decode the weights of a file. At any time, also to begin again. After it come, for each
 * convolution in the order of the graph, sqz_decode_layer and then sqz_decode_channel or
 * sqz_decode_codes once per output channel; and sqz_decode_end.
 *
 * Calls in another order are SQZ_WRONG_USE. SQZ_MALFORMED ends the decoder: all that follows is
 * SQZ_WRONG_USE until sqz_decode_begin.
 *
 * Returns SQZ_OK, SQZ_UNSUPPORTED for the Huffman coder, SQZ_MALFORMED or SQZ_WRONG_USE. */
sqz_error sqz_decode_begin(sqz_decoder *d, const sqz_file *file);

/* Begin a layer, whose operation is one that sqz_read_graph has filled in. Fills in `layer`.
 * Returns SQZ_OK, SQZ_MALFORMED or SQZ_WRONG_USE. */
sqz_error sqz_decode_layer(sqz_decoder *d, const sqz_operation *convolution, sqz_layer *layer);

/* Decode one output channel of a layer of levels.
 *
 * `levels`: inputs x kernel_height x kernel_width, in the order input channel, row, column; -127 to
 * 127. file->largest_channel is the most that any layer needs.
 *
 * Returns SQZ_OK, SQZ_MALFORMED, SQZ_WRONG_USE or, having done nothing, SQZ_UNSUPPORTED for a layer
 * with a codebook. */
sqz_error sqz_decode_channel(sqz_decoder *d, int8_t *levels, sqz_channel_info *channel);

/* The same for layers of both kinds. Codes, -255 to 255: k > 0 is the k-th positive value of the
 * codebook, -k the k-th negative, 0 is 0.0. */
sqz_error sqz_decode_codes(sqz_decoder *d, int16_t *codes, sqz_channel_info *channel);

/* Check, after the last channel of the last layer, that nothing is left in the file.
 * Returns SQZ_OK, SQZ_MALFORMED or SQZ_WRONG_USE. */
sqz_error sqz_decode_end(sqz_decoder *d);

/* Decode a text: file.record, or file.labels without its first byte.
 *
 * Writes at most `room` bytes to `out`, which may be NULL if that is 0, and no zero at the end.
 * `*length` becomes the length of the whole text in bytes. UTF-8 is not checked. `d` is scratch:
 * the decoding of weights ends.
 *
 * Returns SQZ_OK, SQZ_LIMIT for a text above 2^22 bytes, SQZ_MALFORMED or SQZ_WRONG_USE. */
sqz_error sqz_decode_text(sqz_decoder *d, sqz_bytes text, char *out, size_t room, size_t *length);

/* ---- Internal: the state of a decoder ----
 *
 * It stands here so that callers can make an sqz_decoder, of less than 16 KB, wherever they like.
 * See src/sqz_coder.h and src/sqz_levels.h. */

#define SQZ_NUM_CONTEXTS 4096
#define SQZ_SETTLED 160    /* bits that a context averages over once it has seen as many */
#define SQZ_TRACKED 512    /* input channels with an activity of their own; others share one */
#define SQZ_ACTIVITIES 240 /* number of activities, in units of 64 */

/* The adaptive contexts of a coder. */
typedef struct {
    uint16_t p[SQZ_NUM_CONTEXTS];   /* probability of a 1, in 1/65536 */
    uint8_t seen[SQZ_NUM_CONTEXTS]; /* bits, at most SQZ_SETTLED */
    uint16_t rate[SQZ_SETTLED + 1]; /* adaptation rate after so many bits, in 1/65536 */
} sqz_contexts;

/* A range coder, encoder or decoder. */
typedef struct {
    sqz_contexts *contexts;
    uint32_t range;
    uint32_t code; /* decoder: position in the range of what has been read */
    const uint8_t *in, *in_end;
    uint32_t overrun; /* decoder: bytes read beyond the end, as zeros */
    uint64_t low;     /* encoder: lower end of the interval, with one bit for the carry */
    uint32_t pending; /* encoder: bytes that a carry may still change */
    uint8_t held;
    uint8_t *out, *out_end;
    int overflow; /* encoder: the output did not fit */
} sqz_coder;

/* The model of the levels of a layer. */
typedef struct {
    unsigned inputs, height, width;   /* of one output channel */
    uint16_t activity[SQZ_TRACKED];   /* running mean of the size of weights per input channel */
    int16_t balance[SQZ_TRACKED];     /* of their signs: -2048 all negative, 2048 all positive */
    uint8_t class_of[SQZ_ACTIVITIES]; /* per 64 activities */
} sqz_levels;

struct sqz_decoder {
    sqz_contexts contexts;
    sqz_coder coder;
    sqz_levels levels;
    uint32_t weights_left, channels_left; /* of the file, of the layer */
    uint32_t version, representation, raw, trellis;
    uint32_t most_negative, most_positive; /* largest magnitudes of codes */
    uint32_t mantissa_bits;
    int32_t scale, shift, exponent;
};

#ifdef __cplusplus
}
#endif

#endif
