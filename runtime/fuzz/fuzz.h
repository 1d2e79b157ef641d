/* What the parts of the fuzz targets share. */
#ifndef SQZ_FUZZ_H
#define SQZ_FUZZ_H

#include "../src/sqz_runtime.h"

#define MAX_MEMORY \
    (1u << 24) /* bytes of a model that is loaded; of larger ones only sizes are checked */

enum { MAX_TENSORS = 4096, MAX_OPERATIONS = 4096 };

/* End the program unless a promise of the runtime holds. */
void require(int holds, const char *promise);

/* Read the graph into static arrays. Returns whether it is a good one. */
int graph_of(const sqz_file *file, const sqz_tensor **tensors, const sqz_operation **ops);

/* Return sqz_model_size, which must be the result of 64-bit arithmetic on the graph. */
size_t checked_model_size(const sqz_file *file, const sqz_options *options);
/* All that is in the arena must be within it, whatever the size of the tensors. */
void check_arena(const sqz_model *model);
/* Return sqz_classify_size, which must not have overflowed. */
size_t checked_classify_size(const sqz_model *model, const sqz_image *image);

/* Replace a file by one of another network, mostly a good one, of at most `room` bytes. Returns its
 * size, or 0 if the file cannot be changed. */
size_t other_network(uint8_t *file, size_t size, size_t room, unsigned seed);

#endif
