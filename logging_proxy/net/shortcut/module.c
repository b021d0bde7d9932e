#include "shortcut.h"

static int
intern_names(void)
{
#define INTERN(text)                                                                                                   \
    if ((name.text = PyUnicode_InternFromString(#text)) == NULL)                                                       \
        return -1;
    NAMES(INTERN)
#undef INTERN
    return 0;
}

static int
learn_reasons(void)
{
    PyObject *main = PyImport_ImportModule("twisted.internet.main");
    if (main == NULL)
        return -1;
    connection_done = PyObject_GetAttrString(main, "CONNECTION_DONE");
    connection_lost = PyObject_GetAttrString(main, "CONNECTION_LOST");
    Py_DECREF(main);
    return connection_done == NULL || connection_lost == NULL ? -1 : 0;
}

static PyMethodDef functions[] = {
    {"create", create, METH_VARARGS, NULL},
    {"split", split, METH_VARARGS, NULL},
    {NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "logging_proxy.net.shortcut._compiled",
    .m_size = -1,
    .m_methods = functions,
};

PyMODINIT_FUNC
PyInit__compiled(void)
{
    if (intern_names() < 0 || learn_reasons() < 0)
        return NULL;
    PyObject *module = PyModule_Create(&definition);
    if (module == NULL)
        return NULL;
    if (PyModule_AddType(module, &SenderType) < 0 || PyModule_AddType(module, &FastPathType) < 0 ||
        PyModule_AddType(module, &ReaderType) < 0 || PyModule_AddType(module, &WritingType) < 0)
        Py_CLEAR(module);
    return module;
}
