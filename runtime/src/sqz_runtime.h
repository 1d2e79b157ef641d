/* What the parts of the integer client share: spec/INTEGER.md. Not for callers.
 *
 *     sqz_load.c        sizes, the caller's memory, sqz_load
 *     sqz_plan.c        the graph as it is run: head, scales and zero points, fused max pools
 *     sqz_arena.c       where tensors and scratch lie in the arena
 *     sqz_unpack.c      weights from the decoder into blocks
 *     sqz_parameters.c  biases, multipliers and shifts
 *     sqz_run.c         contexts, one image through the model
 *     sqz_operations.c  the operations of a run
 *     sqz_image.c       resize and crop
 *     sqz_rank.c        logits to the best classes
 *
 * Activations are bytes in NHWC order, N = 1: all channels of a position together. The number of
 * channels is rounded up to a multiple of 4. A tensor has a border as wide as the widest padding
 * of the convolutions that read it, so a convolution never looks at edges. Weights are packed in
 * blocks of 16 output channels: for each group of 4 inputs, 4 weights of each of the 16. */
#ifndef SQZ_RUNTIME_H
#define SQZ_RUNTIME_H

#include "../sqz.h"

#define SQZ_BLOCK 16                            /* output channels that are computed together */
#define SQZ_GROUP 4                             /* inputs that are multiplied together */
#define SQZ_GROUP_BYTES (SQZ_BLOCK * SQZ_GROUP) /* weights of a block per group of inputs */
#define SQZ_ALIGNMENT 64                        /* of model memory and arena: a cache line */
#define SQZ_MAX_STEPS 256u      /* tensors, and operations, of a network that runs */
#define SQZ_MAX_POOL_KERNEL 31u /* of a max pool: spec/INTEGER.md, "Max pool" */
#define SQZ_MAX_THREADS 64u
#define SQZ_NOWHERE 0xffffffffu

/* 16 output channels of a convolution. */
typedef struct {
    int32_t *offsets;             /* of each group of inputs, from the beginning of a window */
    int8_t *weights;              /* num_groups x 16 x 4 */
    uint8_t *groups_per_widening; /* how many groups can be summed in 16 bits, one after the other,
                                     before the sums must be widened to 32 */
    uint32_t num_groups;
    uint32_t channels;             /* 16, or fewer in the last block */
    uint8_t zero_point, low;       /* of the target; low is the smallest byte that is written */
    uint16_t groups_in_line;       /* how many groups of inputs lie one after another, always;
                                      num_groups is a multiple, but for sums of 16 bits */
    int32_t bias[SQZ_BLOCK];       /* B of spec/INTEGER.md */
    int32_t shift[SQZ_BLOCK];      /* s */
    int16_t multiplier[SQZ_BLOCK]; /* m */
} sqz_block;

/* Positions of the target that one block is computed for: of a row, or of several. */
typedef struct {
    const uint8_t *in; /* the window of the first position */
    size_t in_stride;  /* bytes from the window of one position to that of the next */
    uint8_t *out;
    size_t out_stride;
    uint32_t count;         /* positions of a row */
    uint32_t num_rows;      /* 1, unless the kernels take more */
    size_t in_row, out_row; /* bytes from one row to the next */
    int is_pair; /* also for the block after, whose outputs follow; kernels->takes_pairs */
} sqz_span;

/* Kernels that this compiler can build; SQZ_ONLY_PORTABLE leaves all but one out. Which of them
 * run is found out on the processor. */
#if !defined(SQZ_ONLY_PORTABLE) && defined(__GNUC__)
#if defined(__x86_64__)
#define SQZ_AVX2 1
#if (defined(__clang__) && __clang_major__ >= 7) || (!defined(__clang__) && __GNUC__ >= 8)
#define SQZ_VNNI 1
#endif
#if (defined(__clang__) && __clang_major__ >= 13) || (!defined(__clang__) && __GNUC__ >= 11)
#define SQZ_AVX_VNNI 1
#endif
#if (defined(__clang__) && __clang_major__ >= 12) || (!defined(__clang__) && __GNUC__ >= 11)
#define SQZ_AMX 1 /* if the process may use it: sqz_kernels_amx */
#endif
#elif defined(__aarch64__) && !defined(__AARCH64EB__)
#define SQZ_NEON 1
#if defined(__ARM_FEATURE_DOTPROD)
#define SQZ_DOTPROD 1
#elif defined(__linux__) && __STDC_HOSTED__ && \
    ((defined(__clang__) && __clang_major__ >= 16) || (!defined(__clang__) && __GNUC__ >= 8))
#define SQZ_DOTPROD 1 /* if the processor has it */
#endif
#elif defined(__wasm_simd128__)
#define SQZ_WASM 1
#if defined(__wasm_relaxed_simd__)
#define SQZ_WASM_RELAXED 1
#endif
#elif defined(__ARM_FEATURE_DSP)
#define SQZ_DSP 1
#endif
/* A loop over registers whose number of turns is a constant: it is unrolled completely. */
#if defined(__clang__)
#define SQZ_UNROLL_FOR _Pragma("clang loop unroll(full)") for
#else
#define SQZ_UNROLL_FOR _Pragma("GCC unroll 16") for
#endif
#endif

struct sqz_kernels {
    const char *name;
    int sums_in_16_bits;               /* whether blocks need groups_per_widening */
    int takes_rows;                    /* whether spans may have several rows */
    int takes_pairs;                   /* whether they may be for two blocks with equal offsets */
    int (*is_supported)(void);         /* by this processor */
    void (*prepare)(sqz_block *block); /* changes a block that has been unpacked; may be NULL */
    /* Write `count` pixels of three channels into the input: spec/INTEGER.md, "Tensors". NULL: the
     * loop for all processors does it. */
    void (*write_pixels)(const uint32_t multiplier[3], const uint8_t *in, uint32_t count,
                         uint8_t *out);
    /* Come before and after calls of the next two by one thread, for blocks of one convolution and
     * spans with equal strides and counts of positions in a row. Both may be NULL. */
    void (*begin)(const sqz_block *block, const sqz_span *span);
    void (*end)(void);
    /* Accumulate, requantise and write block->channels bytes per position. */
    void (*convolve)(const sqz_block *block, const sqz_span *span);
    /* The head: add the accumulators of all positions to `sums`, of a pair to `sums` of both;
     * span->out is not used. */
    void (*sum)(const sqz_block *block, const sqz_span *span, int relu, int64_t *sums);
};

#if defined(SQZ_AVX2)
#define SQZ_HAS_AVX2 1u
#define SQZ_HAS_AVX512_VNNI 2u
#define SQZ_HAS_AVX_VNNI 4u
#define SQZ_HAS_AMX 8u
/* Features of the processor whose registers the system saves. Asked by instructions: the builtins
 * of compilers need a library that Zig and clang-cl do not bring. */
unsigned sqz_x86_features(void);
#endif

extern const sqz_kernels sqz_portable;
#if defined(SQZ_AVX2)
extern const sqz_kernels sqz_avx2;
#endif
#if defined(SQZ_VNNI)
extern const sqz_kernels sqz_vnni;
#endif
#if defined(SQZ_AVX_VNNI)
extern const sqz_kernels sqz_avx_vnni;
#endif
#if defined(SQZ_AMX)
extern const sqz_kernels sqz_amx;
#endif
#if defined(SQZ_NEON)
extern const sqz_kernels sqz_neon;
#endif
#if defined(SQZ_DOTPROD)
extern const sqz_kernels sqz_dotprod;
#endif
#if defined(SQZ_WASM)
extern const sqz_kernels sqz_wasm;
#endif
#if defined(SQZ_WASM_RELAXED)
extern const sqz_kernels sqz_wasm_madd, sqz_wasm_dot;
#endif
#if defined(SQZ_DSP)
extern const sqz_kernels sqz_dsp;
#endif

/* Where a tensor lies, and what its bytes stand for. */
typedef struct sqz_place {
    uint32_t offset;      /* in the arena; SQZ_NOWHERE: the tensor is never held as a whole */
    uint32_t border;      /* positions on each side */
    uint32_t pixel, row;  /* bytes of a position, of a row with its borders */
    uint32_t bytes;       /* of the whole tensor with its borders */
    uint32_t root;        /* the tensor whose place it takes; mostly itself */
    uint32_t first, last; /* operations between which it is alive, both included */
    uint16_t scale;       /* upper half of a float32 */
    uint8_t zero_point;
} sqz_place;

/* An operation as it is run. */
typedef struct sqz_plan_op {
    sqz_operation op;
    sqz_block *blocks;                     /* of a convolution, unless streamed */
    uint32_t num_blocks, blocks_per_group; /* of a convolution; groups of channels */
    uint32_t num_groups;                   /* groups of inputs in a window */
    uint32_t scratch, scratch_bytes; /* offset in the arena; of what this operation alone needs */
    int32_t ratio, other_ratio;      /* of an addition: R1 and R2 */
    uint8_t is_head;
    uint8_t is_fused; /* a convolution that runs within the max pool after it */
} sqz_plan_op;

/* ---- sqz_plan.c ---- */

/* Divide a convolution into blocks and groups of inputs. */
void sqz_divide(sqz_plan_op *s);
/* Fill in model->tensors and model->steps, and of model->places scales, zero points and which
 * tensors are never held. `operations` is scratch. */
sqz_error sqz_plan(sqz_model *model, sqz_operation *operations);

/* ---- sqz_arena.c ---- */

/* Lay everything out in the arena: the rest of model->places, scratch, model->arena. */
sqz_error sqz_lay_out(sqz_model *model);

/* ---- sqz_unpack.c ---- */

/* Divide memory among `count` blocks of a convolution and return the bytes that they need.
 * `memory` is aligned to SQZ_ALIGNMENT; if it is NULL, only the bytes are computed. */
uint64_t sqz_blocks_in(const sqz_options *options, const sqz_plan_op *s, uint32_t count,
                       uint8_t *memory, sqz_block **blocks);
/* Decode blocks `first` .. `first` + `count` - 1 of a convolution into `blocks[0 .. count - 1]`,
 * which have their memory. `levels` is scratch, for one output channel. */
sqz_error sqz_unpack(const sqz_model *model, sqz_decoder *decoder, const sqz_plan_op *s,
                     const sqz_layer *layer, int8_t *levels, sqz_block *blocks, uint32_t first,
                     uint32_t count);

/* ---- sqz_parameters.c ---- */

/* How pixels become the bytes of the input: spec/INTEGER.md, "Tensors". */
typedef struct {
    uint32_t multiplier[3]; /* A */
    int64_t zero_point[3];  /* Z */
    uint8_t padding[3];
    uint32_t min_deviation; /* d */
} sqz_input_quant;

void sqz_input_quant_of(const sqz_input *input, sqz_input_quant *quant);

/* What the numbers of an output channel are in units of: scales and zero points around it. */
typedef struct {
    const sqz_input_quant *input;        /* if the source is the input, else NULL */
    uint16_t source_scale, target_scale; /* upper halves of float32; target 0: the head */
    uint8_t source_zero_point;
    uint32_t positions;     /* of the head: P */
    uint32_t first_channel; /* of the source, with which the levels begin */
} sqz_channel_units;

/* Compute bias, multiplier and shift of channel `i` of a block from its levels. */
sqz_error sqz_channel_parameters(const sqz_channel_units *units, const sqz_layer *layer,
                                 const sqz_channel_info *channel, const int8_t *levels,
                                 sqz_block *block, unsigned i);
/* R1 or R2 of an addition, or -1 if it is beyond the limit. */
int32_t sqz_addition_ratio(uint16_t source_scale, uint16_t target_scale);

/* ---- sqz_operations.c ---- */

/* A run of a model. */
typedef struct {
    sqz_context *context;
    const sqz_model *m;
    uint8_t *arena;
} sqz_run_state;

/* Address of position (row, column) of a tensor; either may be in the border. */
static inline uint8_t *sqz_at(const sqz_run_state *r, uint32_t tensor, int64_t row,
                              int64_t column) {
    const sqz_place *p = &r->m->places[tensor];
    return r->arena + p->offset + (row + p->border) * p->row + (column + p->border) * p->pixel;
}

/* Run a convolution, also the head or one within a max pool, which is then the next operation. */
sqz_error sqz_run_convolution(const sqz_run_state *r, const sqz_plan_op *s, int32_t *logits);
void sqz_run_pool(const sqz_run_state *r, const sqz_plan_op *s);
void sqz_run_addition(const sqz_run_state *r, const sqz_plan_op *s);

/* ---- sqz_image.c, sqz_rank.c ---- */

/* sqz_crop, which hands out one row of the crop at a time. */
sqz_error sqz_crop_rows(const sqz_file *file, const sqz_image *image, void *scratch, size_t size,
                        void (*take)(void *taker, uint32_t y, const uint8_t *row), void *taker);

/* The `count` best of the classes, the best first. */
void sqz_rank(const int32_t *logits, uint32_t num_classes, sqz_answer *answers, size_t count);

/* ---- Arithmetic ---- */

/* Round down, as >> of a negative number does everywhere, although C does not promise it. */
static inline int64_t sqz_shift_right(int64_t value, unsigned by) {
    return value < 0 ? ~(~value >> by) : value >> by;
}

static inline size_t sqz_round_up(size_t bytes, size_t to) { return (bytes + to - 1) / to * to; }

#endif
