/* What the parts of the integer client share: spec/INTEGER.md. Not for callers.
 *
 * An activation is a tensor of bytes, position by position, all channels of a position together
 * (NHWC) and their number rounded up to 4; around it stands a border as wide as the widest padding
 * of its readers, so that a convolution never looks at edges. Weights stand in blocks of 16 output
 * channels: for each group of 4 inputs, 4 weights of each of the 16 channels. */
#ifndef SQZ_RUNTIME_H
#define SQZ_RUNTIME_H

#include "../sqz.h"

#define SQZ_BLOCK 16 /* output channels that are worked out together */
#define SQZ_GROUP 4  /* inputs that are multiplied together */
#define SQZ_MAX_STEPS 256u /* tensors, and operations, of a network that runs */
#define SQZ_NOWHERE 0xffffffffu
#define SQZ_MOST_POOLED 31u /* rows of a window that a pool looks at at once */

/* 16 output channels of a convolution. */
typedef struct {
    int32_t *offsets; /* of each group of inputs, from where a window begins */
    int8_t *weights;  /* num_groups x 16 x 4 */
    uint8_t *runs;    /* how many groups at a time have sums that surely fit into 16 bits */
    uint32_t num_groups;
    uint32_t channels; /* 16, fewer in the last block */
    uint8_t zero, low; /* of the target */
    int32_t bias[SQZ_BLOCK];
    int32_t shift[SQZ_BLOCK];
    int16_t multiplier[SQZ_BLOCK];
} sqz_block;

/* Positions in a row that one block is worked out for. */
typedef struct {
    const uint8_t *in; /* the first position's window */
    size_t in_step;    /* from one position's window to the next one's */
    uint8_t *out;
    size_t out_step;
    uint32_t count;
} sqz_span;

/* Kernels that this compiler can build; SQZ_ONLY_PORTABLE leaves all others out. Which of them run
 * is for the processor to say. */
#if !defined(SQZ_ONLY_PORTABLE) && defined(__GNUC__)
#if defined(__x86_64__)
#define SQZ_AVX2 1
#if (defined(__clang__) && __clang_major__ >= 7) || (!defined(__clang__) && __GNUC__ >= 8)
#define SQZ_VNNI 1
#endif
#if (defined(__clang__) && __clang_major__ >= 13) || (!defined(__clang__) && __GNUC__ >= 11)
#define SQZ_AVX_VNNI 1
#endif
#elif defined(__aarch64__) && !defined(__AARCH64EB__)
#define SQZ_NEON 1
#if defined(__ARM_FEATURE_DOTPROD)
#define SQZ_DOTPROD 1
#elif defined(__linux__) && __STDC_HOSTED__ && ((defined(__clang__) && __clang_major__ >= 16) || \
                                               (!defined(__clang__) && __GNUC__ >= 8))
#define SQZ_DOTPROD 1 /* if the processor says so */
#endif
#elif defined(__wasm_simd128__)
#define SQZ_WASM 1
#elif defined(__ARM_FEATURE_DSP)
#define SQZ_DSP 1
#endif
/* Before a loop over registers, whose number is a constant: all of it is written out. */
#if defined(__clang__)
#define SQZ_UNROLL _Pragma("clang loop unroll(full)")
#else
#define SQZ_UNROLL _Pragma("GCC unroll 16")
#endif
#endif

struct sqz_kernels {
    const char *name;
    int sums_in_16_bits; /* needs `runs` */
    int (*runs_here)(void);
    void (*prepare)(sqz_block *block); /* changes one that is unpacked; may be NULL */
    void (*convolve)(const sqz_block *block, const sqz_span *span);
    /* The head: adds the accumulators of all positions to `sums`. */
    void (*sum)(const sqz_block *block, const sqz_span *span, int relu, int64_t *sums);
};

#if defined(SQZ_AVX2)
#define SQZ_HAS_AVX2 1u
#define SQZ_HAS_AVX512_VNNI 2u
#define SQZ_HAS_AVX_VNNI 4u
/* What the processor has and the system saves of it. Asked by instructions: what compilers have
 * for this needs a library, which Zig and clang-cl do not bring. */
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
#if defined(SQZ_NEON)
extern const sqz_kernels sqz_neon;
#endif
#if defined(SQZ_DOTPROD)
extern const sqz_kernels sqz_dotprod;
#endif
#if defined(SQZ_WASM)
extern const sqz_kernels sqz_wasm;
#endif
#if defined(SQZ_DSP)
extern const sqz_kernels sqz_dsp;
#endif

typedef struct sqz_place {
    uint32_t offset;   /* in the arena; SQZ_NOWHERE: never held as a whole */
    uint32_t border;
    uint32_t pixel, row; /* bytes of a position, of a row with its borders */
    uint32_t bytes;
    uint32_t root;     /* whose place it takes: its own number, mostly */
    uint32_t first, last;
    uint16_t step;     /* upper half of a float32 */
    uint8_t zero;
} sqz_place;

/* An operation as it is run. */
typedef struct sqz_step {
    sqz_operation op;
    sqz_block *blocks; /* of a convolution that is loaded */
    uint32_t num_blocks, blocks_a_group, num_groups;
    uint32_t scratch;  /* offset in the arena, of what only this operation needs */
    uint32_t scratch_bytes;
    uint32_t weight_index; /* of the convolutions */
    int32_t ratio, other_ratio; /* of an addition */
    uint8_t is_head, is_fused; /* fused: runs within the pool behind it */
} sqz_step;

/* How the input is made of pixels, and what its bytes stand for. */
typedef struct {
    uint32_t multiplier[3]; /* A */
    int64_t zero[3];        /* Z */
    uint8_t padding[3];
    uint32_t least;         /* d, the smallest deviation */
} sqz_entry;

void sqz_entry_of(const sqz_input *input, sqz_entry *entry);

/* Bias, multiplier and shift of channel `i` of a block. `sums` are those of its weights: of all
 * magnitudes and, on each input channel, of the levels. */
typedef struct {
    const sqz_entry *entry; /* of the source if it is the input, else NULL */
    uint16_t source_step, target_step; /* target_step 0: the head */
    uint8_t source_zero;
    uint32_t positions; /* of the head */
    uint32_t first_channel; /* of the source, that the levels begin with */
} sqz_units;

sqz_error sqz_channel_parameters(const sqz_units *units, const sqz_layer *layer,
                                 const sqz_channel_info *channel, const int8_t *levels,
                                 sqz_block *block, unsigned i);
/* R of an addition, or -1. */
int32_t sqz_addition_ratio(uint16_t source_step, uint16_t target_step);

/* Blocks of a convolution from the decoder, `first` .. `first` + `count` - 1, into
 * `blocks[0 .. count - 1]`, which have their room. `levels` holds one output channel. */
sqz_error sqz_unpack(const sqz_model *model, sqz_decoder *decoder, const sqz_step *step,
                     const sqz_layer *layer, int8_t *levels, sqz_block *blocks, uint32_t first,
                     uint32_t count);
/* Give `count` blocks their room, in memory aligned to 64; returns how much that is, of which
 * `memory` may be NULL. */
uint64_t sqz_give_room(const sqz_options *options, const sqz_step *step, uint32_t count,
                     uint8_t *memory, sqz_block **blocks);

/* sqz_crop, a row at a time. */
sqz_error sqz_crop_rows(const sqz_file *file, const sqz_image *image, void *scratch, size_t size,
                        void (*take)(void *taker, uint32_t y, const uint8_t *row), void *taker);

/* The `count` best of the classes, the best first. */
void sqz_rank(const int32_t *logits, uint32_t num_classes, sqz_answer *answers, size_t count);

/* Place everything in the arena. */
sqz_error sqz_place_all(sqz_model *model);

/* Rounds down, which >> of a negative number does everywhere, but C does not promise. */
static inline int64_t sqz_shift_right(int64_t value, unsigned by) {
    return value < 0 ? ~(~value >> by) : value >> by;
}

static inline size_t sqz_round_up(size_t bytes, size_t to) { return (bytes + to - 1) / to * to; }

#endif
