/* Logits to the best classes and their probabilities, in integers: spec/INTEGER.md,
 * "Predictions". */
#include "sqz_runtime.h"

/* 2^(-x / 65536) in 1/2^30, by linear interpolation of 16 points per octave: the error is at most
 * 1/4000 of it. */
static uint32_t power_of_half(uint64_t x) {
    static const uint32_t points[17] = {1073741824, 1028218693, 984625594, 942880699, 902905651,
                                        864625413,  827968132,  792865000, 759250125, 727060411,
                                        696235434,  666717336,  638450708, 611382493, 585461881,
                                        560640218,  536870912};
    uint64_t octaves = x >> 16;
    uint32_t i = (uint32_t)(x >> 12 & 15), rest = (uint32_t)(x & 4095);
    if (octaves > 31) return 0;
    uint32_t drop = (uint32_t)((uint64_t)(points[i] - points[i + 1]) * rest >> 12);
    return (points[i] - drop) >> octaves;
}

#define LOG2_E 94548 /* log2(e) in 1/65536 */

/* e^((logit - max) / 65536) in 1/2^30 */
static uint32_t exponential(int32_t logit, int32_t max) {
    return power_of_half((uint64_t)((int64_t)max - logit) * LOG2_E >> 16);
}

/* Find the best classes by insertion. "Of equal logits the lower class comes first." */
void sqz_rank(const int32_t *logits, uint32_t num_classes, sqz_answer *answers, size_t count) {
    size_t found = 0;
    for (uint32_t k = 0; k < num_classes; k++) {
        size_t place = found;
        while (place > 0 && answers[place - 1].logit < logits[k]) place--;
        if (place == count) continue;
        if (found < count) found++;
        for (size_t i = found - 1; i > place; i--) answers[i] = answers[i - 1];
        answers[place].label = k;
        answers[place].logit = logits[k];
    }
    uint64_t total = 0;
    for (uint32_t k = 0; k < num_classes; k++) total += exponential(logits[k], answers[0].logit);
    for (size_t i = 0; i < found; i++) {
        uint64_t share = (uint64_t)exponential(answers[i].logit, answers[0].logit) << 16;
        answers[i].probability = (uint32_t)(share / total);
    }
}
