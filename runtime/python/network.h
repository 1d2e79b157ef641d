#ifndef SQZ_NETWORK_H
#define SQZ_NETWORK_H

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

extern PyType_Spec sqz_network_spec;
/* The kernels that run here, the fastest first. */
PyObject *sqz_kernel_names(PyObject *module, PyObject *unused);

#endif
