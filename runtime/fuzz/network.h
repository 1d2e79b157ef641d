/* A network as the mutator keeps it: the numbers of GRAPH, and what follows from them. */
#ifndef SQZ_FUZZ_NETWORK_H
#define SQZ_FUZZ_NETWORK_H

#include "fuzz.h"

enum { MAX_ITEMS = 40 }; /* tensors, and operations */
/* Indices of an operation's numbers. (TARGET is a macro: the target that this is compiled for.) */
enum { KIND, SOURCE, TARGET_, START, CHANNELS, HEIGHT, WIDTH, STRIDE, PADDING, GROUPS, RELU };
enum { POOL_KERNEL = 3, POOL_STRIDE, OTHER = 3 };
enum { FITTING = 1 << 30 }; /* a padding: the smallest with which the kernel fits */

typedef struct {
    uint32_t num_tensors, num_ops;
    uint32_t shapes[MAX_ITEMS][3];
    uint32_t ops[MAX_ITEMS][11]; /* the kind, then the counts as they stand in GRAPH */
    uint32_t written[MAX_ITEMS];
    uint64_t weights, largest, peak;
    uint32_t random;
} network;

/* How many counts follow the code of an operation. */
static const uint8_t num_counts[] = {0, 10, 4, 3, 2, 3};

/* A random number below `limit`. */
static inline uint32_t below(network *n, uint32_t limit) {
    n->random ^= n->random << 13;
    n->random ^= n->random >> 17;
    n->random ^= n->random << 5;
    return (uint32_t)((uint64_t)n->random * limit >> 32);
}

/* Write it as a file of at most `room` bytes, with the magic and version of `head`, the sections
 * INPUT and, if it is `scaled`, ACTIVATIONS. Returns its size, 0 if there is too little room. */
size_t put_file(network *n, const uint8_t *head, int scaled, const sqz_input *input, uint8_t *out,
                size_t room);

#endif
