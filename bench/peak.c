/* How many 8-bit multiply-accumulates a core can do at best: the instructions that kernels are made
 * of, on registers alone, as many at once as hide their latency. Prints a line an instruction set:
 * its name and G MAC/s, the best of some turns. */
#include <stdio.h>
#include <time.h>

#define TURNS 15
#define LOOPS 200000

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* `work` does LOOPS x `macs` multiply-accumulates. */
static void measure(const char *name, void (*work)(void), double macs) {
    double min_seconds = 1e9;
    for (int turn = 0; turn < TURNS; turn++) {
        double start = seconds();
        work();
        double took = seconds() - start;
        if (took < min_seconds) min_seconds = took;
    }
    printf("%s %.1f\n", name, LOOPS * macs / min_seconds / 1e9);
}

/* In assembler, since compilers would keep products that do not change. */
#if defined(__x86_64__)
static void avx2(void) {
#define MULTIPLY(product) "vpmaddubsw %%ymm14, %%ymm15, %%ymm" #product "\n\t"
#define ADD(sum, product) "vpaddw %%ymm" #product ", %%ymm" #sum ", %%ymm" #sum "\n\t"
    for (int loop = 0; loop < LOOPS; loop++)
        __asm__ volatile(MULTIPLY(6) MULTIPLY(7) MULTIPLY(8) MULTIPLY(9) MULTIPLY(10) MULTIPLY(11)
                             ADD(0, 6) ADD(1, 7) ADD(2, 8) ADD(3, 9) ADD(4, 10) ADD(5, 11)
                         :
                         :
                         : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8",
                           "xmm9", "xmm10", "xmm11");
#undef MULTIPLY
#undef ADD
}

static void vnni(void) {
#define STEP(sum) "vpdpbusd %%zmm14, %%zmm15, %%zmm" #sum "\n\t"
    for (int loop = 0; loop < LOOPS; loop++)
        __asm__ volatile(STEP(0) STEP(1) STEP(2) STEP(3) STEP(4) STEP(5) STEP(6) STEP(7) STEP(8)
                             STEP(9) STEP(10) STEP(11)
                         :
                         :
                         : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8",
                           "xmm9", "xmm10", "xmm11");
#undef STEP
}

#if defined(__linux__)
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static void amx(void) {
#define STEP(sum) "tdpbusd %%tmm6, %%tmm7, %%tmm" #sum "\n\t"
    for (int loop = 0; loop < LOOPS / 10; loop++)
        __asm__ volatile(STEP(0) STEP(1) STEP(2) STEP(3) STEP(4) STEP(5) : :);
#undef STEP
}

/* Six accumulators of 16 x 16, as many tiles as are left beside the factors. */
static void measure_amx(void) {
    struct {
        unsigned char palette, start_row, zero[14];
        unsigned short row_bytes[16];
        unsigned char rows[16];
    } shape;
    if (syscall(SYS_arch_prctl, 0x1023, 18)) return; /* ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA */
    memset(&shape, 0, sizeof shape);
    shape.palette = 1;
    for (int i = 0; i < 8; i++) shape.row_bytes[i] = 64, shape.rows[i] = 16;
    __asm__ volatile("ldtilecfg %0" : : "m"(shape));
    measure("AMX int8", amx, 6 * 16384 / 10.);
    __asm__ volatile("tilerelease");
}
#endif
#elif defined(__aarch64__)
static void neon(void) {
#define STEP(sum) "smlal v" #sum ".8h, v30.8b, v31.8b\n\t"
    for (int loop = 0; loop < LOOPS; loop++)
        __asm__ volatile(STEP(0) STEP(1) STEP(2) STEP(3) STEP(4) STEP(5) STEP(6) STEP(7)
                         :
                         :
                         : "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7");
#undef STEP
}
#endif

int main(void) {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2")) measure("AVX2", avx2, 6 * 32);
    if (__builtin_cpu_supports("avx512vnni")) measure("AVX-512 VNNI", vnni, 12 * 64);
#if defined(__linux__)
    if (__builtin_cpu_supports("amx-int8")) measure_amx();
#endif
#elif defined(__aarch64__)
    measure("NEON", neon, 8 * 8);
#endif
    return 0;
}
