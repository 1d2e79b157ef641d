#ifndef SQZ_NATIVE_MODEL_H
#define SQZ_NATIVE_MODEL_H

#include "python.h"

extern PyType_Spec sqz_native_model_spec;
/* kernels(): the names of the kernels that run on this machine, the fastest first. */
PyObject *sqz_kernel_names(PyObject *module, PyObject *unused);

#endif
