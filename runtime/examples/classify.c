/* Prints the five best classes of a picture:
 *
 *     cc -O3 -I.. classify.c ../src/sqz_*.c ../kernels/sqz_*.c -o classify
 *     ./classify MODEL.sqz PICTURE.ppm
 *
 * PPM (P6) is the format that needs no library. To convert a JPEG: djpeg photo.jpg > photo.ppm */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../sqz.h"

#define TOP 5

static int fail(const char *what, const char *why) {
    fprintf(stderr, "classify: %s: %s\n", what, why);
    return 1;
}

static void *read_file(const char *name, size_t *size) {
    FILE *file = fopen(name, "rb");
    size_t room = 1 << 16;
    unsigned char *bytes = file == NULL ? NULL : malloc(room);
    *size = 0;
    while (bytes != NULL) {
        *size += fread(bytes + *size, 1, room - *size, file);
        if (*size < room) break;
        room *= 2;
        unsigned char *larger = realloc(bytes, room);
        if (larger == NULL) free(bytes);
        bytes = larger;
    }
    if (file != NULL) fclose(file);
    return bytes;
}

/* A number of a PPM's head; comments run from # to the end of the line. 0: there is none. */
static uint32_t head_number(const unsigned char **at, const unsigned char *end) {
    uint32_t value = 0;
    while (*at < end && (**at == '#' || **at == ' ' || (**at >= '\t' && **at <= '\r'))) {
        if (**at == '#')
            while (*at < end && **at != '\n') ++*at;
        else ++*at;
    }
    while (*at < end && **at >= '0' && **at <= '9' && value < 1000000)
        value = 10 * value + (uint32_t)(*(*at)++ - '0');
    return value;
}

static int read_ppm(const unsigned char *bytes, size_t size, sqz_image *image) {
    const unsigned char *at = bytes + 2, *end = bytes + size;
    if (size < 8 || memcmp(bytes, "P6", 2) != 0) return 0;
    image->width = head_number(&at, end);
    image->height = head_number(&at, end);
    uint32_t most = head_number(&at, end);
    image->rgb = at + 1;
    image->stride = 3 * (size_t)image->width;
    return image->width && image->height && most == 255 && at < end &&
           (size_t)(end - at) - 1 >= image->height * image->stride;
}

/* The classes' names, one a line, behind the first byte of LABELS. */
static char *read_names(const sqz_file *file) {
    sqz_decoder *decoder = malloc(sizeof *decoder);
    sqz_bytes text = {file->labels.bytes + 1, file->labels.size - 1};
    size_t length = 0;
    char *names = NULL;
    if (decoder != NULL && file->labels.size && !sqz_decode_text(decoder, text, NULL, 0, &length))
        names = malloc(length + 1);
    if (names != NULL) {
        sqz_decode_text(decoder, text, names, length, &length);
        names[length] = '\0';
    }
    free(decoder);
    return names;
}

static void print_name(const char *names, uint32_t label) {
    for (; label > 0 && *names; names++) label -= *names == '\n';
    printf("%.*s", (int)strcspn(names, "\n"), names);
}

int main(int argc, char **argv) {
    sqz_file file;
    sqz_model model;
    sqz_context context;
    sqz_image image;
    sqz_answer answers[TOP];
    sqz_options options = {0, 1, NULL};
    size_t size, picture_size;
    if (argc != 3) return fail("usage", "classify MODEL.sqz PICTURE.ppm");
    void *bytes = read_file(argv[1], &size), *picture = read_file(argv[2], &picture_size);
    if (bytes == NULL) return fail(argv[1], "cannot be read");
    if (picture == NULL) return fail(argv[2], "cannot be read");
    if (!read_ppm(picture, picture_size, &image)) return fail(argv[2], "not a PPM picture (P6)");

    sqz_error error = sqz_open(&file, bytes, size);
    if (error) return fail(argv[1], sqz_error_text(error));
    size_t need = sqz_model_size(&file, &options);
    void *memory = malloc(need + 1);
    error = memory == NULL ? SQZ_LIMIT : sqz_load(&model, &file, &options, memory, need);
    if (error) return fail(argv[1], sqz_error_text(error));
    size_t room = sqz_classify_size(&model, &image);
    void *arena = malloc(room + 1);
    error = arena == NULL ? SQZ_LIMIT : sqz_start(&context, &model, arena, room);
    size_t top = model.num_classes < TOP ? model.num_classes : TOP;
    if (!error) error = sqz_classify(&context, &image, answers, top);
    if (error) return fail(argv[2], sqz_error_text(error));

    char *names = read_names(&file);
    for (size_t i = 0; i < top; i++) {
        printf("%5.1f%%  ", answers[i].probability / 655.36);
        if (names != NULL) print_name(names, answers[i].label);
        printf("\n");
    }
    free(names), free(arena), free(memory), free(picture), free(bytes);
    return 0;
}
