/* What the groups of cases share: a line per case, memory of an exact size, a file that is
 * ready. */
#ifndef SQZ_MISUSE_H
#define SQZ_MISUSE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/sqz_runtime.h"

/* Print a line: what was done, what came of it, and whether that is right. */
void say(const char *what, const char *got, int good);
void expect(const char *what, sqz_error got, sqz_error expected);
void expect_size(const char *what, size_t got, size_t expected);

#define REFUSED(call) expect(#call, call, SQZ_WRONG_USE)
#define IS_LIMIT(call) expect(#call, call, SQZ_LIMIT)
#define ACCEPTED(call) expect(#call, call, SQZ_OK)
#define IS_ZERO(call) expect_size(#call, call, 0)

/* Memory of exactly that size, so that a sanitizer detects any access beyond it. */
void *exactly(size_t size);
uint8_t *read_file(const char *name, size_t *size);

/* A model that is ready to run, with a picture and the logits of its crop. */
typedef struct {
    uint8_t *bytes;
    sqz_file file;
    sqz_options options;
    sqz_model model;
    sqz_context context;
    void *memory, *arena, *scratch;
    size_t size, need, room, scratch_size, num_classes;
    sqz_image image;
    uint8_t *pixels;
    int32_t *logits, *expected;
    sqz_answer *answers;
} client;

void open_client(client *c, const char *name);
void close_client(client *c);
/* Load the model and start its context; `stop` frees what `start` has allocated. */
void start(client *c, int streamed, unsigned threads);
void stop(client *c);
/* Crop, run and classify. The logits must be those that are expected. */
sqz_error run(client *c);

/* The state of the reader, with the first layer begun. */
typedef struct {
    sqz_tensor tensors[SQZ_MAX_STEPS];
    sqz_operation ops[SQZ_MAX_STEPS], *op;
    sqz_decoder decoder;
    sqz_layer layer;
    sqz_channel_info info;
    int8_t *levels;
    int16_t *codes;
} reader;

reader *open_reader(const sqz_file *file);
void close_reader(reader *r);

/* The groups of cases. */
void null_pointers(client *c);
void too_little_room(client *c);
void pictures(client *c);
void wrong_order(client *c);
void wrong_options(client *c);
void addresses(client *c);
void threads(client *c);
void damage(client *c);
void float_only(const char *name);
void limits(void);

#endif
