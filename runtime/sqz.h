/* sqz: runs .sqz files, image classifiers of a few hundred kilobytes. spec/FORMAT.md says what
 * every byte of a file means, spec/INTEGER.md what is computed.
 *
 * No heap, no globals, no floating point, no standard library but <string.h>. The file's bytes are
 * borrowed: they must stay where they are, in flash or memory, while anything here is in use. Any
 * bytes may be given; a file that is damaged or hostile ends in an error. All memory is the
 * caller's, and functions say how much there must be:
 *
 *     sqz_file file;
 *     sqz_error error = sqz_open(&file, bytes, size);              checks all checksums
 *     sqz_options options = {0};
 *     size_t need = sqz_model_size(&file, &options);               0: not for integer clients
 *     sqz_model model;
 *     error = sqz_load(&model, &file, &options, memory, need);     unpacks the weights
 *     sqz_context context;                                         one for each thread of yours
 *     error = sqz_start(&context, &model, arena, sqz_arena_size(&model));
 *     sqz_answer best[5];
 *     sqz_image image = {rgb, height, width, 3 * width};           any size
 *     error = sqz_classify(&context, &image, best, 5);
 *
 * Where memory is short, options.streamed leaves the weights in the file: they are unpacked during
 * each run, 16 output channels at a time. sqz_run takes pixels that are cropped already and gives
 * all logits.
 *
 * The stack needs less than SQZ_STACK bytes besides; tests on Cortex-M hold it to that.
 *
 * A function that has returned an error may be called again only with other arguments. What it
 * should have filled in is empty then: those that are given it return SQZ_WRONG_USE.
 *
 * Underneath is the reader, for those who only want the weights: sqz_read_graph, then
 * sqz_decode_begin and, for each convolution, sqz_decode_layer and sqz_decode_channel. */
#ifndef SQZ_H
#define SQZ_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
    SQZ_OK = 0,
    SQZ_UNKNOWN_FORMAT, /* not a .sqz file */
    SQZ_TRUNCATED,      /* shorter than it says */
    SQZ_CHECKSUM,       /* damaged */
    SQZ_UNSUPPORTED,    /* of another version, or uses what this reader does not have */
    SQZ_LIMIT,          /* asks for more than the format allows */
    SQZ_MALFORMED,      /* contradicts the format, under good checksums */
    SQZ_FLOAT_ONLY,     /* a good file, but not for integers */
    SQZ_BUSY,           /* the context is running, in another thread: told by compilers that have
                           the atomics of GCC; others must see to it themselves */
    SQZ_WRONG_USE       /* a null pointer, too little room, calls in the wrong order */
} sqz_error;

/* One line of English; never NULL. */
const char *sqz_error_text(sqz_error error);

typedef struct {
    const uint8_t *bytes;
    uint32_t size;
} sqz_bytes;

/* How a picture becomes tensor 0: resize the short side, cut the crop from the middle, take the
 * channels (0 luma, 1 RGB, 2 BGR), subtract the mean, divide by the deviation, both in 1/65536
 * of a pixel level. */
typedef struct {
    uint32_t channels, resize, crop_height, crop_width;
    int32_t mean[3], deviation[3];
} sqz_input;

typedef struct {
    uint32_t version;          /* of the format */
    uint32_t num_weights;      /* of all convolutions */
    uint32_t largest_channel;  /* weights of the largest output channel */
    uint32_t peak_activations; /* elements that are alive at once */
    uint32_t num_tensors, num_operations;
    sqz_input input;
    sqz_bytes graph, weights, labels, record;
    sqz_bytes activations; /* bytes NULL: a file for float32 alone */
} sqz_file;

/* Check a file and find its parts. With SQZ_NO_CHECKSUMS defined when compiling, checksums are
 * not looked at: for fuzzing, and for files that were checked before. */
sqz_error sqz_open(sqz_file *file, const void *bytes, size_t size);

typedef struct {
    uint32_t channels, height, width;
    uint32_t first, last; /* operations between which it is alive, both included */
    uint32_t written;     /* channels written so far, while reading the graph */
} sqz_tensor;

typedef enum {
    SQZ_CONVOLUTION = 1,
    SQZ_MAX_POOL,
    SQZ_ADD,
    SQZ_AVERAGE_POOL,
    SQZ_RESPONSE_NORM
} sqz_kind;

typedef struct {
    sqz_kind kind;
    uint32_t source, target; /* tensors */
    uint32_t other;          /* SQZ_ADD: the second source */
    uint32_t target_start;   /* convolution: first channel of the target that it writes */
    uint32_t inputs, out_channels; /* convolution: input channels of a group */
    uint32_t kernel_height, kernel_width; /* both of a pool; the channels of a response norm */
    uint32_t stride, padding, groups, relu;
} sqz_operation;

/* Fill in the tensors (0 is the input) and the operations in their order, and check that they
 * make a network: shapes, slices, everything written before it is read. The target of the last
 * operation is the answer. */
sqz_error sqz_read_graph(const sqz_file *file, sqz_tensor *tensors, size_t num_tensors,
                         sqz_operation *operations, size_t num_operations);

typedef enum { SQZ_CODEBOOK = 0, SQZ_LEVELS = 1 } sqz_representation;

typedef struct {
    sqz_representation representation;
    uint32_t out_channels, inputs, kernel_height, kernel_width;
    uint32_t bias_shift;              /* levels: bias = channel.bias / 2^bias_shift */
    uint32_t num_negative, num_positive; /* codebook: float32 bits of its values, both from the */
    uint32_t codebook[255];              /* smallest magnitude on, the negative first */
} sqz_layer;

typedef struct {
    uint32_t scale; /* levels: the float32 whose bits are scale << 18, a weight is level * it */
    int32_t bias;
    uint32_t float_bias; /* codebook: the bits of a float32 */
} sqz_channel_info;

/* The state of the range coder and of its model of weights: see src/sqz_coder.h and
 * src/sqz_levels.h. It stands here so that callers can make one; nothing in it is for them. */
#define SQZ_NUM_CONTEXTS 4096
#define SQZ_SETTLED 160 /* bits that a context averages over once it has seen as many */
#define SQZ_TRACKED 512 /* input channels with a memory of their own; others share */
#define SQZ_ACTIVITIES 240 /* the most that there is, in 64s */

typedef struct {
    uint16_t p[SQZ_NUM_CONTEXTS]; /* chance of a 1, in 1/65536 */
    uint8_t seen[SQZ_NUM_CONTEXTS];
    uint16_t rate[SQZ_SETTLED + 1]; /* step of a context that has seen so many bits, in 1/65536 */
} sqz_contexts;

typedef struct {
    sqz_contexts *contexts;
    uint32_t range;
    uint32_t code; /* decoding: what the bytes read so far leave to explain */
    const uint8_t *in, *in_end;
    uint32_t overrun; /* bytes asked for behind the end */
    uint64_t low;     /* coding: lower end of the interval, with one bit for the carry */
    uint32_t pending; /* bytes that a carry may still change */
    uint8_t held;
    uint8_t *out, *out_end;
    int overflow; /* the output did not fit */
} sqz_coder;

typedef struct {
    unsigned inputs, height, width; /* of one output channel */
    uint16_t activity[SQZ_TRACKED]; /* how large the weights on an input channel have been */
    int16_t balance[SQZ_TRACKED];   /* and how often positive: -2048 never, 2048 always */
    uint8_t class_of[SQZ_ACTIVITIES]; /* of 64 activities each */
} sqz_levels;

/* Under 16 KB. */
typedef struct {
    sqz_contexts contexts;
    sqz_coder coder;
    sqz_levels levels;
    uint32_t weights_left, channels_left; /* of the file, of the layer */
    uint32_t version, representation, raw, trellis;
    uint32_t most_negative, most_positive; /* magnitudes that codes may have */
    uint32_t mantissa_bits;
    int32_t scale, shift, exponent;
} sqz_decoder;

sqz_error sqz_decode_begin(sqz_decoder *d, const sqz_file *file);
sqz_error sqz_decode_layer(sqz_decoder *d, const sqz_operation *convolution,
                           sqz_layer *layer);
/* The levels of one output channel, in the order input channel, row, column. */
sqz_error sqz_decode_channel(sqz_decoder *d, int8_t *levels, sqz_channel_info *channel);
/* The same for codes, -255 to 255: k is the k-th positive value of the codebook, -k the k-th
 * negative, 0 is 0.0. Takes levels too. */
sqz_error sqz_decode_codes(sqz_decoder *d, int16_t *codes, sqz_channel_info *channel);
/* After the last channel: was that all that the file has? */
sqz_error sqz_decode_end(sqz_decoder *d);

/* Decode the text of `labels` (behind its first byte) or `record`: at most `room` bytes of it.
 * `*length` becomes the text's whole length. `d` is used, and of no other use meanwhile. */
sqz_error sqz_decode_text(sqz_decoder *d, sqz_bytes text, char *out, size_t room,
                          size_t *length);

/* Running. */

#define SQZ_STACK 4096

typedef struct sqz_kernels sqz_kernels; /* the inner loops for one instruction set */

/* The n-th set of kernels that runs on this machine, the fastest first; NULL behind the last. All
 * give the same logits. */
const sqz_kernels *sqz_kernels_here(unsigned n);
const char *sqz_kernels_name(const sqz_kernels *kernels);

typedef struct {
    int streamed;               /* leave the weights in the file */
    unsigned threads;           /* that sqz_parallel offers; 0 is 1 */
    const sqz_kernels *kernels; /* NULL: the fastest */
} sqz_options;

typedef struct sqz_model {
    sqz_file file;
    sqz_options options;
    struct sqz_place *places; /* of the tensors */
    struct sqz_step *steps;   /* the operations */
    sqz_tensor *tensors;
    uint32_t num_steps, num_tensors, num_classes;
    size_t arena;
    uint32_t logits;          /* places in the arena */
    uint32_t decoder, levels; /* when streamed */
} sqz_model;

/* Bytes of memory for sqz_load, or 0 if it would refuse. */
size_t sqz_model_size(const sqz_file *file, const sqz_options *options);
/* `memory` becomes part of the model, which nothing changes from then on: any number of contexts
 * and threads may share it. */
sqz_error sqz_load(sqz_model *model, const sqz_file *file, const sqz_options *options,
                   void *memory, size_t size);
/* Bytes for sqz_start: all activations and scratch. */
size_t sqz_arena_size(const sqz_model *model);

/* Calls task(argument, 0 .. count - 1), in any order or at once, and returns when all are done. */
typedef void (*sqz_parallel)(void *user, void (*task)(void *argument, unsigned i), void *argument,
                             unsigned count);

typedef struct {
    const sqz_model *model;
    uint8_t *arena;
    size_t arena_size;
    sqz_parallel parallel; /* may be set behind sqz_start; NULL: one thread */
    void *user;
    int busy;
} sqz_context;

sqz_error sqz_start(sqz_context *context, const sqz_model *model, void *arena, size_t size);

/* `pixels`: crop_height x crop_width, each 1 or 3 bytes in the channel order of the file.
 * `logits`: one for each class, in 1/65536. */
sqz_error sqz_run(sqz_context *context, const uint8_t *pixels, int32_t *logits, size_t num_logits);

/* A picture: rows of RGB bytes, a row beginning `stride` bytes behind the one before. */
typedef struct {
    const uint8_t *rgb;
    uint32_t height, width;
    size_t stride;
} sqz_image;

/* Resize and crop a picture as the file says, into the pixels that sqz_run takes. `scratch` is any
 * memory; sqz_crop_scratch says how much the picture needs. */
size_t sqz_crop_scratch(const sqz_file *file, const sqz_image *image);
sqz_error sqz_crop(const sqz_file *file, const sqz_image *image, uint8_t *pixels, void *scratch,
                   size_t size);

typedef struct {
    uint32_t label;
    int32_t logit;       /* in 1/65536 */
    uint32_t probability; /* in 1/65536, within 1/4096 */
} sqz_answer;

/* The `count` best classes, the best first. A large picture may need more arena than sqz_run:
 * sqz_classify_size says how much, 0 if the picture cannot be. */
size_t sqz_classify_size(const sqz_model *model, const sqz_image *image);
sqz_error sqz_classify(sqz_context *context, const sqz_image *image, sqz_answer *answers,
                       size_t count);

#ifdef __cplusplus
}
#endif

#endif
