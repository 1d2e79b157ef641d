/* squeezenet._native.Encoder and Decoder: the range coder for Python. The oracle in Python,
 * squeezenet.codec, has the same classes and methods. */
#include "range_coder.h"

#include "../runtime/src/sqz_levels.h"

#include <stdlib.h>

typedef struct {
    PyObject_HEAD
    int encode;
    PyObject *data;  /* the bytes that a decoder reads, kept alive */
    uint8_t *buffer; /* the bytes that an encoder has written so far; grows between channels */
    size_t room;
    sqz_contexts contexts;
    sqz_coder coder;
    sqz_levels levels;
    int trellis; /* whether the layer is on the trellis */
} Coder;

/* A level takes at most 16 bits in contexts, and a bit in a context costs at most 9 bits. */
#define MAX_BYTES_PER_LEVEL 32

static int reserve(Coder *self, size_t more) {
    if (!self->encode) return 0;
    size_t used = (size_t)(self->coder.out - self->buffer);
    more += self->coder.pending + 16;
    if (self->room - used >= more) return 0;
    size_t room = 2 * self->room + more;
    uint8_t *grown = realloc(self->buffer, room);
    if (grown == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    self->buffer = grown;
    self->room = room;
    self->coder.out = grown + used;
    self->coder.out_end = grown + room;
    return 0;
}

static PyObject *encoder_new(PyTypeObject *type, PyObject *args, PyObject *kwds) {
    if (!PyArg_ParseTuple(args, "")) return NULL;
    Coder *self = (Coder *)PyType_GenericAlloc(type, 0);
    if (self == NULL) return NULL;
    self->encode = 1;
    self->room = 1 << 16;
    self->buffer = malloc(self->room);
    if (self->buffer == NULL) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    sqz_coder_write(&self->coder, &self->contexts, self->buffer, self->room);
    return (PyObject *)self;
}

static PyObject *decoder_new(PyTypeObject *type, PyObject *args, PyObject *kwds) {
    PyObject *data;
    char *bytes;
    Py_ssize_t size;
    if (!PyArg_ParseTuple(args, "S", &data)) return NULL;
    Coder *self = (Coder *)PyType_GenericAlloc(type, 0);
    if (self == NULL) return NULL;
    Py_INCREF(data);
    self->data = data;
    PyBytes_AsStringAndSize(data, &bytes, &size);
    sqz_coder_read(&self->coder, &self->contexts, (const uint8_t *)bytes, (size_t)size);
    return (PyObject *)self;
}

static void coder_dealloc(Coder *self) {
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    Py_XDECREF(self->data);
    free(self->buffer);
    freefunc release = PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

static PyObject *coder_bit(Coder *self, PyObject *args) {
    unsigned context;
    int bit = 0;
    if (!PyArg_ParseTuple(args, "I|p", &context, &bit)) return NULL;
    if (context >= SQZ_NUM_CONTEXTS) {
        PyErr_SetString(PyExc_ValueError, "no such context");
        return NULL;
    }
    if (reserve(self, 8) < 0) return NULL;
    return PyBool_FromLong(sqz_bit(&self->coder, self->encode, context, bit));
}

static PyObject *coder_plain(Coder *self, PyObject *args) {
    unsigned count, value = 0;
    if (!PyArg_ParseTuple(args, "I|I", &count, &value)) return NULL;
    if (count > 32) {
        PyErr_SetString(PyExc_ValueError, "at most 32 bits at once");
        return NULL;
    }
    if (reserve(self, 16) < 0) return NULL;
    return PyLong_FromUnsignedLong(sqz_plain(&self->coder, self->encode, count, value));
}

static PyObject *coder_number(Coder *self, PyObject *args) {
    unsigned slot;
    int value = 0;
    if (!PyArg_ParseTuple(args, "I|i", &slot, &value)) return NULL;
    if (slot > SQZ_NUM_CONTEXTS - SQZ_SLOT_CONTEXTS || value == INT32_MIN) {
        PyErr_SetString(PyExc_ValueError, "no such slot or number");
        return NULL;
    }
    if (reserve(self, 128) < 0) return NULL;
    return PyLong_FromLong(sqz_number(&self->coder, self->encode, slot, value));
}

static PyObject *coder_byte(Coder *self, PyObject *args) {
    unsigned char before, byte = 0;
    if (!PyArg_ParseTuple(args, "b|b", &before, &byte)) return NULL;
    if (reserve(self, 64) < 0) return NULL;
    return PyLong_FromLong(sqz_byte(&self->coder, self->encode, before, byte));
}

#define MAX_WEIGHTS (1u << 27) /* of an output channel: spec/FORMAT.md, "Limits" */

static PyObject *coder_begin(Coder *self, PyObject *args) {
    unsigned inputs, height, width;
    int trellis = 0;
    if (!PyArg_ParseTuple(args, "III|p", &inputs, &height, &width, &trellis)) return NULL;
    if (!inputs || !height || !width || inputs > MAX_WEIGHTS || height > 1u << 13 ||
        width > 1u << 13 || (uint64_t)height * width * inputs > MAX_WEIGHTS) {
        PyErr_SetString(PyExc_ValueError, "no such layer");
        return NULL;
    }
    sqz_levels_begin(&self->levels, inputs, height, width);
    self->trellis = trellis;
    Py_RETURN_NONE;
}

/* Code an output channel in place. Returns 0 if the levels are not on the trellis; some of them
 * have become codes by then. */
static int code_channel(Coder *self, int16_t *levels, size_t count) {
    if (self->encode && self->trellis && !sqz_trellis_codes(levels, count)) return 0;
    if (self->encode) sqz_channel(&self->coder, &self->levels, 1, levels, 1);
    else sqz_channel(&self->coder, &self->levels, 0, levels, 1);
    if (self->trellis) sqz_trellis_levels(levels, 1, count);
    return 1;
}

static PyObject *coder_channel(Coder *self, PyObject *levels) {
    Py_buffer view;
    size_t count = (size_t)self->levels.inputs * self->levels.height * self->levels.width;
    int failed = 0;
    if (PyObject_GetBuffer(levels, &view, PyBUF_WRITABLE | PyBUF_C_CONTIGUOUS) < 0) return NULL;
    if (count == 0 || view.itemsize != 2 || (size_t)view.len != 2 * count) {
        PyErr_SetString(PyExc_ValueError, "expected the layer's number of 16-bit levels");
        failed = 1;
    } else if (self->encode) {
        const int16_t *v = view.buf;
        for (size_t i = 0; i < count && !failed; i++)
            failed = v[i] > SQZ_MAX_MAGNITUDE || v[i] < -SQZ_MAX_MAGNITUDE;
        if (failed) PyErr_SetString(PyExc_ValueError, "a level is out of range");
        else failed = reserve(self, MAX_BYTES_PER_LEVEL * count) < 0;
    }
    if (!failed && !code_channel(self, view.buf, count)) {
        PyErr_SetString(PyExc_ValueError, "levels that are not on the trellis");
        failed = 1;
    }
    PyBuffer_Release(&view);
    if (failed) return NULL;
    Py_RETURN_NONE;
}

static PyObject *encoder_finish(Coder *self, PyObject *unused) {
    if (reserve(self, 64) < 0) return NULL;
    const uint8_t *end = sqz_coder_finish(&self->coder);
    return PyBytes_FromStringAndSize((const char *)self->buffer, end - self->buffer);
}

static PyObject *decoder_at_end(Coder *self, void *unused) {
    return PyBool_FromLong(sqz_coder_at_end(&self->coder));
}

#define METHODS                                                                          \
    {"bit", (PyCFunction)coder_bit, METH_VARARGS, "Code one bit in a context."},         \
        {"plain", (PyCFunction)coder_plain, METH_VARARGS, "Code bits without a model."}, \
        {"number", (PyCFunction)coder_number, METH_VARARGS, "Code a number in a slot."}, \
        {"byte", (PyCFunction)coder_byte, METH_VARARGS, "Code a byte of text."},         \
        {"begin", (PyCFunction)coder_begin, METH_VARARGS, "Begin a layer."},             \
        {"channel", (PyCFunction)coder_channel, METH_O, "Code an output channel in place."}

static PyObject *encoder_size(Coder *self, void *unused) {
    size_t written = (size_t)(self->coder.out - self->buffer) + self->coder.pending;
    return PyLong_FromSize_t(written);
}

static PyMethodDef encoder_methods[] = {
    METHODS, {"finish", (PyCFunction)encoder_finish, METH_NOARGS, "Return the bytes."}, {NULL}};
static PyMethodDef decoder_methods[] = {METHODS, {NULL}};
static PyGetSetDef encoder_properties[] = {
    {"size", (getter)encoder_size, NULL, "Bytes written so far, without those that finish() adds.",
     NULL},
    {NULL}};
static PyGetSetDef decoder_properties[] = {
    {"at_end", (getter)decoder_at_end, NULL, "Whether all bytes have been read.", NULL}, {NULL}};

static PyType_Slot encoder_slots[] = {{Py_tp_new, encoder_new},
                                      {Py_tp_dealloc, coder_dealloc},
                                      {Py_tp_methods, encoder_methods},
                                      {Py_tp_getset, encoder_properties},
                                      {Py_tp_doc, "Range encoder with adaptive contexts."},
                                      {0, NULL}};
static PyType_Slot decoder_slots[] = {{Py_tp_new, decoder_new},
                                      {Py_tp_dealloc, coder_dealloc},
                                      {Py_tp_methods, decoder_methods},
                                      {Py_tp_getset, decoder_properties},
                                      {Py_tp_doc, "Range decoder with adaptive contexts."},
                                      {0, NULL}};
PyType_Spec sqz_encoder_spec = {"squeezenet._native.Encoder", sizeof(Coder), 0, Py_TPFLAGS_DEFAULT,
                                encoder_slots};
PyType_Spec sqz_decoder_spec = {"squeezenet._native.Decoder", sizeof(Coder), 0, Py_TPFLAGS_DEFAULT,
                                decoder_slots};
