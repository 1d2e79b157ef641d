/* A program with its model inside, as squeezenet export --to c writes it:
 *
 *     make && ./classify picture.ppm            the five best classes
 *     ./classify --logits picture.ppm           all logits, in 1/65536
 *
 * PPM (P6) is the format that needs no library: convert photo.jpg photo.ppm. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model.h"
#include "sqz.h"

#define TOP 5

static int fail(const char *what, const char *why) {
    fprintf(stderr, "classify: %s: %s\n", what, why);
    return 1;
}

/* Reads a PPM; NULL if it is none. */
static unsigned char *read_ppm(const char *name, sqz_image *image) {
    FILE *file = fopen(name, "rb");
    unsigned char *rgb = NULL;
    unsigned height, width, most;
    if (file == NULL) return NULL;
    if (fscanf(file, "P6 %u %u %u", &width, &height, &most) == 3 && most == 255 && width &&
        height && width < 65536 && height < 65536 && fgetc(file) != EOF) {
        size_t size = (size_t)3 * width * height;
        rgb = malloc(size);
        if (rgb != NULL && fread(rgb, 1, size, file) != size) {
            free(rgb);
            rgb = NULL;
        }
        image->rgb = rgb;
        image->height = height;
        image->width = width;
        image->stride = (size_t)3 * width;
    }
    fclose(file);
    return rgb;
}

int main(int argc, char **argv) {
    sqz_file file;
    sqz_model network;
    sqz_context context;
    sqz_image image;
    sqz_options options = {0, 1, NULL};
    int all = argc == 3 && strcmp(argv[1], "--logits") == 0;
    if (argc != 2 + all) return fail("usage", "classify [--logits] PICTURE.ppm");
    const char *name = argv[1 + all];
    unsigned char *rgb = read_ppm(name, &image);
    if (rgb == NULL)
        return fail(name, "not a PPM picture (P6); to make one: convert photo.jpg photo.ppm");

    sqz_error error = sqz_open(&file, model, model_size);
    if (error) return fail("model", sqz_error_text(error));
    size_t need = sqz_model_size(&file, &options);
    void *memory = malloc(need + 1);
    error = memory == NULL ? SQZ_LIMIT : sqz_load(&network, &file, &options, memory, need);
    if (error) return fail("model", sqz_error_text(error));
    size_t room = sqz_classify_size(&network, &image), count = network.num_classes;
    void *arena = malloc(room + 1);
    sqz_answer *answers = malloc(count * sizeof *answers);
    error =
        arena == NULL || answers == NULL ? SQZ_LIMIT : sqz_start(&context, &network, arena, room);
    if (!error) error = sqz_classify(&context, &image, answers, count);
    if (error) return fail(name, sqz_error_text(error));

    for (size_t i = 0; i < count && (all || i < TOP); i++) {
        if (all) printf("%u %ld\n", (unsigned)answers[i].label, (long)answers[i].logit);
        else
            printf("%5.1f%%  %s\n", answers[i].probability / 655.36,
                   model_classes[answers[i].label]);
    }
    free(answers), free(arena), free(memory), free(rgb);
    return 0;
}
