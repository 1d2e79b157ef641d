/* What BochsCPU from PyPI needs to run here, loaded before it: see emulate.py.
 *
 * It always makes a Core i3-8121U, without VNNI, though it has all of Bochs' processors; so the
 * function for that one is replaced. And it uses two names of glibc 2.38, which older ones lack. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* Set by emulate.py: makes the processor that is asked for. */
void *(*create_processor)(void *cpu);

/* create_corei3_cnl_cpuid(BX_CPU_C *), as C++ calls it. */
void *_Z23create_corei3_cnl_cpuidP8BX_CPU_C(void *cpu);
void *_Z23create_corei3_cnl_cpuidP8BX_CPU_C(void *cpu) { return create_processor(cpu); }

int __isoc23_sscanf(const char *text, const char *format, ...);
int __isoc23_sscanf(const char *text, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int count = vsscanf(text, format, arguments);
    va_end(arguments);
    return count;
}

unsigned long long __isoc23_strtoull(const char *text, char **end, int base);
unsigned long long __isoc23_strtoull(const char *text, char **end, int base) {
    return strtoull(text, end, base);
}
