/* The kernels that this compiler has built, the fastest first. */
#include "../src/sqz_runtime.h"

#if defined(SQZ_AVX2)
#include <cpuid.h>

unsigned sqz_x86_features(void) {
    unsigned a, b, c, d, saved, found = 0;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c >> 27 & 1)) return 0; /* no xgetbv */
    __asm__ volatile("xgetbv" : "=a"(saved), "=d"(d) : "c"(0));
    if ((saved & 0x06) != 0x06 || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return 0;
    if (b >> 5 & 1) found |= SQZ_HAS_AVX2;
    const unsigned avx512 = 1u << 16 | 1u << 30 | 1u << 31; /* F, BW, VL */
    if ((saved & 0xe6) == 0xe6 && (b & avx512) == avx512 && (c >> 11 & 1))
        found |= SQZ_HAS_AVX512_VNNI;
    if ((saved & 0x60000) == 0x60000 && (d >> 24 & 1) && (d >> 25 & 1)) found |= SQZ_HAS_AMX;
    if (a >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1))
        found |= SQZ_HAS_AVX_VNNI;
    return found;
}
#endif

static const sqz_kernels *const all[] = {
#if defined(SQZ_VNNI)
    &sqz_vnni,
#endif
#if defined(SQZ_AVX_VNNI)
    &sqz_avx_vnni,
#endif
#if defined(SQZ_AVX2)
    &sqz_avx2,
#endif
#if defined(SQZ_DOTPROD)
    &sqz_dotprod,
#endif
#if defined(SQZ_NEON)
    &sqz_neon,
#endif
#if defined(SQZ_WASM_RELAXED)
    &sqz_wasm_dot, &sqz_wasm_madd,
#endif
#if defined(SQZ_WASM)
    &sqz_wasm,
#endif
#if defined(SQZ_DSP)
    &sqz_dsp,
#endif
    &sqz_portable,
};

const sqz_kernels *sqz_kernels_here(unsigned n) {
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i]->is_supported() && n-- == 0) return all[i];
    return NULL;
}

const sqz_kernels *sqz_kernels_amx(void) {
#if defined(SQZ_AMX)
    if (sqz_amx.is_supported()) return &sqz_amx;
#endif
    return NULL;
}

const char *sqz_kernels_name(const sqz_kernels *kernels) {
    return kernels == NULL ? "none" : kernels->name;
}
