/* Which kernels were built, the fastest first. */
#include "../src/sqz_runtime.h"

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
        if (all[i]->runs_here() && n-- == 0) return all[i];
    return NULL;
}

const char *sqz_kernels_name(const sqz_kernels *kernels) {
    return kernels == NULL ? "none" : kernels->name;
}
