/* squeezenet._native: the C runtime, the range coder, the trellis search and the resize for
 * Python. */
#include "native_model.h"
#include "range_coder.h"
#include "resize.h"
#include "rounding.h"

#include "../runtime/sqz.h"

static PyMethodDef functions[] = {
    {"kernels", sqz_kernel_names, METH_NOARGS,
     "Return the names of the kernels that run on this machine."},
    {"resize", sqz_resize, METH_VARARGS, "Resize a rectangle of a picture."},
    {"round_output", sqz_round_output, METH_VARARGS,
     "Round the weights of an output channel to codes."},
    {"round_levels", sqz_round_levels, METH_VARARGS,
     "Round the weights of a layer to codes, without error feedback."},
    {NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "squeezenet._native", "The runtime.", -1,
                                    functions};

PyMODINIT_FUNC PyInit__native(void) {
    PyObject *m = PyModule_Create(&module);
    if (m == NULL) return NULL;
    if (PyModule_AddObject(m, "Encoder", PyType_FromSpec(&sqz_encoder_spec)) < 0 ||
        PyModule_AddObject(m, "Decoder", PyType_FromSpec(&sqz_decoder_spec)) < 0 ||
        PyModule_AddObject(m, "NativeModel", PyType_FromSpec(&sqz_native_model_spec)) < 0) {
        Py_DECREF(m);
        return NULL;
    }
    PyModule_AddIntConstant(m, "STACK_BYTES", SQZ_STACK);
    return m;
}
