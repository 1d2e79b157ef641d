/* squeezenet._native.NativeModel: a .sqz file loaded by the runtime, for squeezenet.client. */
#include "native_model.h"

#include <stdlib.h>
#include <string.h>

#include "../runtime/sqz.h"
#include "system.h"
#include "threads.h"

typedef struct {
    PyObject_HEAD
    PyObject *data; /* the bytes of the file, which the model borrows */
    sqz_model model;
    void *memory, *arena;
    size_t memory_bytes;
    sqz_context context;
    sqz_pool *pool;
    int in_use; /* whether a thread of Python has the context; guarded by the GIL */
} NativeModel;

/* Raise ValueError(code, text): the client maps the code to an error of squeezenet. */
static PyObject *refuse(sqz_error error) {
    PyObject *what = Py_BuildValue("(is)", (int)error, sqz_error_text(error));
    if (what != NULL) {
        PyErr_SetObject(PyExc_ValueError, what);
        Py_DECREF(what);
    }
    return NULL;
}

/* The n-th of the kernels that this process may use, the fastest first; NULL after the last. */
static const sqz_kernels *kernels_at(unsigned n) {
    const sqz_kernels *amx = sqz_kernels_amx();
    if (amx == NULL || !sqz_may_use_amx()) return sqz_kernels_here(n);
    return n == 0 ? amx : sqz_kernels_here(n - 1);
}

static const sqz_kernels *kernels_named(const char *name) {
    const sqz_kernels *kernels;
    for (unsigned i = 0; (kernels = kernels_at(i)) != NULL; i++)
        if (strcmp(sqz_kernels_name(kernels), name) == 0) return kernels;
    return NULL;
}

static sqz_error load(NativeModel *self, const sqz_options *options) {
    char *bytes;
    Py_ssize_t size;
    sqz_file file;
    PyBytes_AsStringAndSize(self->data, &bytes, &size);
    sqz_error error = sqz_open(&file, bytes, (size_t)size);
    if (error) return error;
    if (file.activations.bytes == NULL) return SQZ_FLOAT_ONLY;
    self->memory_bytes = sqz_model_size(&file, options);
    if (!self->memory_bytes) return SQZ_LIMIT;
    self->memory = malloc(self->memory_bytes);
    if (self->memory == NULL) return SQZ_LIMIT;
    error = sqz_load(&self->model, &file, options, self->memory, self->memory_bytes);
    if (error) return error;
    self->arena = malloc(sqz_arena_size(&self->model));
    if (self->arena == NULL) return SQZ_LIMIT;
    return sqz_start(&self->context, &self->model, self->arena, sqz_arena_size(&self->model));
}

static PyObject *model_new(PyTypeObject *type, PyObject *args, PyObject *kwds) {
    static char *names[] = {"data", "threads", "streamed", "kernels", NULL};
    PyObject *data;
    unsigned threads = 1;
    int streamed = 0;
    const char *name = "";
    sqz_error error;
    if (!PyArg_ParseTupleAndKeywords(args, kwds, "S|Ips", names, &data, &threads, &streamed, &name))
        return NULL;
    sqz_options options = {streamed, threads, kernels_at(0)};
    if (*name && (options.kernels = kernels_named(name)) == NULL) return refuse(SQZ_UNSUPPORTED);
    NativeModel *self = (NativeModel *)PyType_GenericAlloc(type, 0);
    if (self == NULL) return NULL;
    Py_INCREF(data);
    self->data = data;
    Py_BEGIN_ALLOW_THREADS
    error = load(self, &options);
    Py_END_ALLOW_THREADS
    if (error) {
        Py_DECREF(self);
        return refuse(error);
    }
    self->pool = sqz_pool_new(threads);
    if (self->pool != NULL) {
        self->context.parallel = sqz_pool_run;
        self->context.user = self->pool;
    }
    return (PyObject *)self;
}

static void model_dealloc(NativeModel *self) {
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    sqz_pool_free(self->pool);
    free(self->arena);
    free(self->memory);
    Py_XDECREF(self->data);
    freefunc release = PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

/* All images of a batch, one after another. */
static sqz_error run_batch(sqz_context *context, const uint8_t *pixels, size_t image_bytes,
                           int32_t *logits, size_t count) {
    size_t num_classes = context->model->num_classes;
    sqz_error error = SQZ_OK;
    for (size_t i = 0; i < count && !error; i++)
        error = sqz_run(context, pixels + i * image_bytes, logits + i * num_classes, num_classes);
    return error;
}

/* The same with a context and arena of its own: another thread of Python has the model's. */
static sqz_error run_in_own_context(const NativeModel *self, const uint8_t *pixels,
                                    size_t image_bytes, int32_t *logits, size_t count) {
    sqz_context context;
    size_t size = sqz_arena_size(&self->model);
    void *arena = malloc(size);
    if (arena == NULL) return SQZ_LIMIT;
    sqz_error error = sqz_start(&context, &self->model, arena, size);
    if (!error) error = run_batch(&context, pixels, image_bytes, logits, count);
    free(arena);
    return error;
}

static size_t image_bytes(const NativeModel *self) {
    const sqz_input *input = &self->model.file.input;
    return (size_t)input->crop_height * input->crop_width * (input->channels ? 3 : 1);
}

static PyObject *model_run(NativeModel *self, PyObject *args) {
    Py_buffer pixels, logits;
    sqz_error error = SQZ_WRONG_USE;
    if (!PyArg_ParseTuple(args, "y*w*", &pixels, &logits)) return NULL;
    size_t image = image_bytes(self), row = self->model.num_classes * sizeof(int32_t);
    size_t count = (size_t)pixels.len / image;
    if ((size_t)pixels.len == count * image && (size_t)logits.len == count * row) {
        /* in_use, not SQZ_BUSY: without atomics of the compiler, sqz_run cannot detect a race. */
        int is_taken = self->in_use;
        self->in_use = 1;
        Py_BEGIN_ALLOW_THREADS
        error = is_taken ? run_in_own_context(self, pixels.buf, image, logits.buf, count)
                         : run_batch(&self->context, pixels.buf, image, logits.buf, count);
        Py_END_ALLOW_THREADS
        if (!is_taken) self->in_use = 0;
    }
    PyBuffer_Release(&pixels);
    PyBuffer_Release(&logits);
    if (error) return refuse(error);
    Py_RETURN_NONE;
}

static sqz_error crop(const NativeModel *self, const sqz_image *image, uint8_t *out) {
    size_t size = sqz_crop_scratch(&self->model.file, image);
    void *scratch = size ? malloc(size) : NULL;
    if (scratch == NULL) return SQZ_LIMIT;
    sqz_error error = sqz_crop(&self->model.file, image, out, scratch, size);
    free(scratch);
    return error;
}

static PyObject *model_crop(NativeModel *self, PyObject *args) {
    Py_buffer picture, pixels;
    unsigned height, width;
    sqz_error error = SQZ_WRONG_USE;
    if (!PyArg_ParseTuple(args, "y*IIw*", &picture, &height, &width, &pixels)) return NULL;
    if ((uint64_t)picture.len == 3 * (uint64_t)height * width &&
        (size_t)pixels.len == image_bytes(self)) {
        sqz_image image = {picture.buf, height, width, (size_t)3 * width};
        Py_BEGIN_ALLOW_THREADS
        error = crop(self, &image, pixels.buf);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&picture);
    PyBuffer_Release(&pixels);
    if (error) return refuse(error);
    Py_RETURN_NONE;
}

/* The first byte of LABELS, `ids`, and the text after it: spec/FORMAT.md, "LABELS". */
static PyObject *model_labels(NativeModel *self, void *unused) {
    sqz_bytes labels = self->model.file.labels, text = {labels.bytes + 1, labels.size - 1};
    size_t length = 0;
    if (labels.size < 1) return refuse(SQZ_MALFORMED);
    sqz_decoder *decoder = malloc(sizeof *decoder);
    sqz_error error =
        decoder == NULL ? SQZ_LIMIT : sqz_decode_text(decoder, text, NULL, 0, &length);
    char *out = error ? NULL : malloc(length + 1);
    PyObject *found = NULL;
    if (out != NULL) {
        sqz_decode_text(decoder, text, out, length, &length);
        found = Py_BuildValue("(iy#)", labels.bytes[0], out, (Py_ssize_t)length);
    }
    free(out);
    free(decoder);
    return error ? refuse(error) : found != NULL ? found : PyErr_NoMemory();
}

static PyObject *get_crop_shape(NativeModel *self, void *unused) {
    const sqz_input *input = &self->model.file.input;
    return Py_BuildValue("(III)", input->crop_height, input->crop_width, input->channels ? 3 : 1);
}

static PyObject *get_kernels(NativeModel *self, void *unused) {
    return PyUnicode_FromString(sqz_kernels_name(self->model.options.kernels));
}

static PyObject *get_arena_bytes(NativeModel *self, void *unused) {
    return PyLong_FromSize_t(sqz_arena_size(&self->model));
}

static PyObject *get_memory_bytes(NativeModel *self, void *unused) {
    return PyLong_FromSize_t(self->memory_bytes);
}

static PyObject *get_num_classes(NativeModel *self, void *unused) {
    return PyLong_FromUnsignedLong(self->model.num_classes);
}

static PyMethodDef methods[] = {
    {"run", (PyCFunction)model_run, METH_VARARGS, "Compute int32 logits of cropped pixels."},
    {"crop", (PyCFunction)model_crop, METH_VARARGS, "Resize and crop an RGB picture."},
    {"labels", (PyCFunction)model_labels, METH_NOARGS,
     "Return the kind of ids and the text of LABELS."},
    {NULL}};
static PyGetSetDef properties[] = {
    {"crop_shape", (getter)get_crop_shape, NULL, "Rows, columns and channels of the crop.", NULL},
    {"kernels", (getter)get_kernels, NULL, "Name of the kernels.", NULL},
    {"arena_bytes", (getter)get_arena_bytes, NULL, "Bytes of activations and scratch.", NULL},
    {"memory_bytes", (getter)get_memory_bytes, NULL, "Bytes of tables and unpacked weights.", NULL},
    {"num_classes", (getter)get_num_classes, NULL, "Number of logits.", NULL},
    {NULL}};
static PyType_Slot slots[] = {{Py_tp_new, model_new},
                              {Py_tp_dealloc, model_dealloc},
                              {Py_tp_methods, methods},
                              {Py_tp_getset, properties},
                              {Py_tp_doc, "A .sqz file, loaded and ready to run."},
                              {0, NULL}};
PyType_Spec sqz_native_model_spec = {"squeezenet._native.NativeModel", sizeof(NativeModel), 0,
                                     Py_TPFLAGS_DEFAULT, slots};

PyObject *sqz_kernel_names(PyObject *module, PyObject *unused) {
    PyObject *names = PyList_New(0);
    const sqz_kernels *kernels;
    for (unsigned i = 0; names != NULL && (kernels = kernels_at(i)) != NULL; i++) {
        PyObject *name = PyUnicode_FromString(sqz_kernels_name(kernels));
        if (name == NULL || PyList_Append(names, name) < 0) Py_CLEAR(names);
        Py_XDECREF(name);
    }
    return names;
}
