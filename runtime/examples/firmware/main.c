/* Classifies one picture on a microcontroller. Model and picture are in flash; the weights stay
 * there compressed, and are unpacked piece by piece while the network runs. */
#include <string.h>

#include "../../sqz.h"
#include "board.h"
#include ASSETS /* the model and the picture, from embed.py */

#define TOP 5
#ifdef CHECK
#define MAX_ANSWERS 1024 /* all classes, for a test */
#else
#define MAX_ANSWERS TOP
#endif

/* All memory except the stack. The firmware prints how much of it is used. */
static uint8_t tables[TABLES_BYTES] __attribute__((aligned(64)));
static uint8_t arena[ARENA_BYTES] __attribute__((aligned(64), section(".external")));

/* for read_names */
typedef char arena_is_large_enough[ARENA_BYTES > sizeof(sqz_decoder) ? 1 : -1];

static void fail(const char *what, const char *why) {
    print(what);
    print(": ");
    print(why);
    print("\n");
    leave(1);
}

static void print_bytes(const char *what, uint64_t bytes) {
    print(what);
    print_number((int64_t)bytes);
}

/* The names of the classes, one per line, or none. The network has run: its arena is free for the
 * decoder and, after it, the text. */
static char *read_names(const sqz_file *file) {
    sqz_decoder *decoder = (sqz_decoder *)(void *)arena;
    char *names = (char *)arena + sizeof *decoder;
    size_t room = sizeof arena - sizeof *decoder, length = 0;
    sqz_bytes text = {file->labels.bytes + 1, file->labels.size - 1};
    if (!file->labels.size || sqz_decode_text(decoder, text, names, room - 1, &length)) length = 0;
    names[length < room ? length : room - 1] = '\0';
    return names;
}

static void print_name(char *names, uint32_t label) {
    for (; label > 0 && *names; names++) label -= *names == '\n';
    char *end = names;
    while (*end && *end != '\n') end++;
    char last = *end;
    *end = '\0';
    print(names);
    *end = last;
}

static void print_answer(const sqz_answer *answer, char *names) {
    uint32_t share = (answer->probability * 1000 + 32768) >> 16;
    print_number(share / 10);
    print(".");
    print_number(share % 10);
    print("%, logit ");
    print_number(answer->logit);
    print(", ");
    print_name(names, answer->label);
    print("\n");
}

int main(void) {
    static sqz_answer answers[MAX_ANSWERS];
    sqz_file file;
    sqz_model network;
    sqz_context context;
    sqz_options options = {1, 1, NULL};
    sqz_image image = {picture, PICTURE_HEIGHT, PICTURE_WIDTH, 3 * PICTURE_WIDTH};

    start_ticks();
    sqz_error error = sqz_open(&file, model, sizeof model);
    if (error) fail("model", sqz_error_text(error));
    size_t need = sqz_model_size(&file, &options);
    print_bytes("tables: ", need);
    if (need > sizeof tables) fail(" bytes", "TABLES_BYTES is less");
    error = sqz_load(&network, &file, &options, tables, sizeof tables);
    if (error) fail("model", sqz_error_text(error));
    size_t room = sqz_classify_size(&network, &image);
    print_bytes(" bytes\narena: ", room);
    if (!room || room > sizeof arena) fail(" bytes", "ARENA_BYTES is less");
    uint64_t opened = ticks();

    error = sqz_start(&context, &network, arena, sizeof arena);
    size_t count = network.num_classes < MAX_ANSWERS ? network.num_classes : MAX_ANSWERS;
    if (!error) error = sqz_classify(&context, &image, answers, count);
    if (error) fail("picture", sqz_error_text(error));
    uint64_t answered = ticks();

    print_bytes(" bytes\nstack: ", stack_used());
    print_bytes(" bytes\nopened after ", opened);
    print_bytes(", answered after ", answered);
    print_bytes(" ticks, ", CLOCK_HZ);
    print(" a second\nkernels: ");
    print(sqz_kernels_name(network.options.kernels));
    print("\n");
    char *names = read_names(&file);
    for (size_t i = 0; i < count && i < TOP; i++) print_answer(&answers[i], names);
#ifdef CHECK
    for (size_t i = 0; i < count; i++) {
        print_bytes("class ", answers[i].label);
        print(": ");
        print_number(answers[i].logit);
        print("\n");
    }
#endif
    return 0;
}
