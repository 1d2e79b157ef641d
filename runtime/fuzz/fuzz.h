/* What the parts of the fuzz targets share. */
#ifndef SQZ_FUZZ_H
#define SQZ_FUZZ_H

#include "../src/sqz_runtime.h"

#define ROOM (1u << 24) /* bytes that we allocate at most; asked for more, we only look at sizes */

enum { MOST_TENSORS = 4096, MOST_OPERATIONS = 4096 };

/* A promise of the runtime that must hold; ends the program if it does not. */
void require(int holds, const char *promise);

/* The graph, if it is a good one; the arrays are ours. */
int graph_of(const sqz_file *file, const sqz_tensor **tensors, const sqz_operation **ops);

/* What sqz_model_size says must be what 64 bits make of the graph. Returns it. */
size_t checked_model_size(const sqz_file *file, const sqz_options *options);
/* The arena must hold all that is in it, whatever the size of the tensors, and the size for a
 * picture must not have run over. Returns sqz_classify_size. */
void check_arena(const sqz_model *model);
size_t checked_classify_size(const sqz_model *model, const sqz_image *image);

/* Change a file to another one, mostly good, of another network: at most `room` bytes. Returns its
 * size, 0 if the file is not one that this can change. */
size_t other_network(uint8_t *file, size_t size, size_t room, unsigned seed);

#endif
