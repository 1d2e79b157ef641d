/* Makes one call fail, once: to be preloaded (LD_PRELOAD) into the command under test.
 *
 * FAULT_FOLDER   files in it count, others never fail
 * FAULT_CALL     write, rename, fsync or malloc: the kind of call
 * FAULT_NUMBER   which of them fails, from 1; 0: none
 * FAULT_ERRNO    the error of a failed write, rename or fsync
 * FAULT_COUNT    a file that gets the number of such calls when the process ends; of several
 *                processes, that of the one which had any
 *
 * malloc, calloc and realloc count where our own extension calls them (_native.abi3.so). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static const char *folder, *call;
static long number, counted;
static int code;
static uintptr_t first, last; /* where the extension lies */

__attribute__((constructor)) static void begin(void) {
    folder = getenv("FAULT_FOLDER");
    call = getenv("FAULT_CALL");
    number = getenv("FAULT_NUMBER") ? atol(getenv("FAULT_NUMBER")) : 0;
    code = getenv("FAULT_ERRNO") ? atoi(getenv("FAULT_ERRNO")) : EIO;
}

__attribute__((destructor)) static void end(void) {
    const char *name = getenv("FAULT_COUNT");
    FILE *file = name ? fopen(name, counted ? "w" : "wx") : NULL;
    if (file == NULL) return;
    fprintf(file, "%ld\n", counted);
    fclose(file);
}

void _exit(int status) { /* how a rank ends: without destructors */
    end();
    syscall(SYS_exit_group, status);
    __builtin_unreachable();
}

static int fails(const char *kind) {
    if (call == NULL || strcmp(call, kind) != 0) return 0;
    return ++counted == number;
}

static int in_folder(int file) {
    char link[64], path[4096];
    if (folder == NULL) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    long length = syscall(SYS_readlinkat, -100, link, path, sizeof path - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    return strncmp(path, folder, strlen(folder)) == 0;
}

ssize_t write(int file, const void *bytes, size_t size) {
    if (in_folder(file) && fails("write")) {
        errno = code;
        return -1;
    }
    return syscall(SYS_write, file, bytes, size);
}

int fsync(int file) {
    if (in_folder(file) && fails("fsync")) {
        errno = code;
        return -1;
    }
    return (int)syscall(SYS_fsync, file);
}

int rename(const char *from, const char *to) {
    int ours = folder != NULL && (to[0] != '/' || strncmp(to, folder, strlen(folder)) == 0);
    if (ours && fails("rename")) {
        errno = code;
        return -1;
    }
    return (int)syscall(SYS_renameat2, -100, from, -100, to, 0);
}

static int find(struct dl_phdr_info *info, size_t size, void *unused) {
    (void)size, (void)unused;
    if (strstr(info->dlpi_name, "_native.abi3.so") == NULL) return 0;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        if (info->dlpi_phdr[i].p_type != PT_LOAD) continue;
        uintptr_t begins = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
        if (first == 0 || begins < first) first = begins;
        if (begins + info->dlpi_phdr[i].p_memsz > last) last = begins + info->dlpi_phdr[i].p_memsz;
    }
    return 1;
}

void *dlopen(const char *name, int flags) {
    static void *(*real)(const char *, int);
    if (real == NULL) *(void **)&real = dlsym(RTLD_NEXT, "dlopen");
    void *found = real(name, flags);
    if (found != NULL && name != NULL && strstr(name, "_native.abi3.so"))
        dl_iterate_phdr(find, NULL);
    return found;
}

static int ours(const void *caller) {
    return first != 0 && (uintptr_t)caller >= first && (uintptr_t)caller < last;
}

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);

void *malloc(size_t size) {
    if (ours(__builtin_return_address(0)) && fails("malloc")) return NULL;
    return __libc_malloc(size);
}

void *calloc(size_t count, size_t size) {
    if (ours(__builtin_return_address(0)) && fails("malloc")) return NULL;
    return __libc_calloc(count, size);
}

void *realloc(void *before, size_t size) {
    if (ours(__builtin_return_address(0)) && fails("malloc")) return NULL;
    return __libc_realloc(before, size);
}
