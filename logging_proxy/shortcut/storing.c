/* A Writing: records into the ring (`CaptureWriter.write`, `Ring.store`). */

#include "shortcut.h"

#include <string.h>

typedef struct {
    PyObject_HEAD
    PyObject *writer, *ring, *stored, *now;
} Writing;

#define HEADER 24 /* bytes of a record in front of its payload, see records.py */

/* The ring's numbers that matter here, all of them stream offsets but the first. */
typedef struct {
    long long capacity, stored, taken, next_mark;
} Offsets;

static int
get_number(PyObject *object, PyObject *name, long long *number)
{
    PyObject *value = PyObject_GetAttr(object, name);
    if (value == NULL)
        return -1;
    *number = PyLong_AsLongLong(value);
    Py_DECREF(value);
    return *number == -1 && PyErr_Occurred() ? -1 : 0;
}

static int
get_offsets(PyObject *ring, Offsets *offsets)
{
    return get_number(ring, name.capacity, &offsets->capacity) || get_number(ring, name.stored, &offsets->stored) ||
                   get_number(ring, name.taken, &offsets->taken) ||
                   get_number(ring, name._next_mark, &offsets->next_mark)
               ? -1
               : 0;
}

/* A number that fits into a byte; -1 without an exception if it is none. */
static int
small_number(PyObject *number)
{
    int overflow;
    long value = PyLong_Check(number) ? PyLong_AsLongAndOverflow(number, &overflow) : -1;
    return value < 0 || value > 255 ? -1 : (int)value;
}

/* How many bytes these records are, -1 without an exception if one of them is not plain: kind, flags, payload. */
static Py_ssize_t
size_of(PyObject *records)
{
    Py_ssize_t total = 0;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(records); i++) {
        PyObject *record = PyTuple_GET_ITEM(records, i);
        if (!PyTuple_Check(record) || PyTuple_GET_SIZE(record) != 3 ||
            small_number(PyTuple_GET_ITEM(record, 0)) < 0 || small_number(PyTuple_GET_ITEM(record, 1)) < 0 ||
            !PyBytes_CheckExact(PyTuple_GET_ITEM(record, 2)))
            return -1;
        total += HEADER + PyBytes_GET_SIZE(PyTuple_GET_ITEM(record, 2));
    }
    return total;
}

static void
put_number(unsigned char *to, unsigned long long number, int size)
{
    for (int i = 0; i < size; i++)
        to[i] = (unsigned char)(number >> 8 * i);
}

static void
put_records(unsigned char *to, PyObject *records, unsigned long long exchange, unsigned long long time)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(records); i++) {
        PyObject *record = PyTuple_GET_ITEM(records, i), *payload = PyTuple_GET_ITEM(record, 2);
        size_t size = (size_t)PyBytes_GET_SIZE(payload);
        put_number(to, size, 4);
        to[4] = (unsigned char)small_number(PyTuple_GET_ITEM(record, 0));
        to[5] = (unsigned char)small_number(PyTuple_GET_ITEM(record, 1));
        put_number(to + 6, 0, 2);
        put_number(to + 8, exchange, 8);
        put_number(to + 16, time, 8);
        memcpy(to + HEADER, PyBytes_AS_STRING(payload), size);
        to += HEADER + size;
    }
}

/* What was put into the ring is stored now: first in the file, for who finds it after us; 0, or -1. */
static int
advance(PyObject *ring, const Offsets *offsets, long long stored)
{
    Py_buffer header;
    PyObject *view = PyObject_GetAttr(ring, name._header);
    if (view == NULL || PyObject_GetBuffer(view, &header, PyBUF_WRITABLE) < 0) {
        Py_XDECREF(view);
        return -1;
    }
    /* A single store, behind all others: a kill between two instructions leaves the old or the new offset. */
    __atomic_store_n((unsigned long long *)header.buf, (unsigned long long)stored, __ATOMIC_RELEASE);
    PyBuffer_Release(&header);
    Py_DECREF(view);
    PyObject *number = PyLong_FromLongLong(stored);
    int failed = number == NULL ? -1 : PyObject_SetAttr(ring, name.stored, number);
    Py_XDECREF(number);
    if (failed || stored < offsets->next_mark)
        return failed;
    return succeeded(PyObject_CallMethodNoArgs(ring, name._mark));
}

/* 1 if the records were stored, 0 if that is not for us, -1 with an exception. */
static int
store(Writing *self, unsigned long long exchange, PyObject *records)
{
    PyObject *const troubles[] = {name._waiting, name._losing};
    int usual = none_is_true(self->writer, troubles, 2);
    Py_ssize_t size = usual == 1 ? size_of(records) : -1;
    if (size <= 0)
        return usual < 0 ? -1 : 0;
    Offsets offsets;
    if (get_offsets(self->ring, &offsets) < 0)
        return -1;
    long long start = offsets.stored % offsets.capacity;
    if (size > offsets.capacity - offsets.stored + offsets.taken || start + size > offsets.capacity)
        return 0;
    PyObject *now = PyObject_CallNoArgs(self->now);
    unsigned long long time = now == NULL ? 0 : PyLong_AsUnsignedLongLong(now);
    Py_XDECREF(now);
    PyObject *view = PyErr_Occurred() ? NULL : PyObject_GetAttr(self->ring, name._bytes);
    Py_buffer memory;
    if (view == NULL || PyObject_GetBuffer(view, &memory, PyBUF_WRITABLE) < 0) {
        Py_XDECREF(view);
        return -1;
    }
    put_records((unsigned char *)memory.buf + start, records, exchange, time);
    PyBuffer_Release(&memory);
    Py_DECREF(view);
    if (advance(self->ring, &offsets, offsets.stored + size) < 0)
        return -1;
    return succeeded(PyObject_CallNoArgs(self->stored)) < 0 ? -1 : 1;
}

static PyObject *
writing_call(Writing *self, PyObject *args, PyObject *kwargs)
{
    PyObject *exchange, *records;
    if (!PyArg_ParseTuple(args, "OO", &exchange, &records))
        return NULL;
    unsigned long long number = PyLong_AsUnsignedLongLong(exchange);
    if (PyErr_Occurred())
        return NULL;
    int done = PyTuple_Check(records) ? store(self, number, records) : 0;
    if (done != 0)
        return done < 0 ? NULL : Py_NewRef(Py_None);
    return PyObject_CallMethodObjArgs(self->writer, name.write, exchange, records, NULL);
}

HOLDS(writing, Writing, writer, now)

static PyObject *
writing_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *writer, *ring, *stored, *now;
    if (!PyArg_ParseTuple(args, "OOOO:Writing", &writer, &ring, &stored, &now))
        return NULL;
    Writing *self = (Writing *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->writer = Py_NewRef(writer);
    self->ring = Py_NewRef(ring);
    self->stored = Py_NewRef(stored);
    self->now = Py_NewRef(now);
    return (PyObject *)self;
}

PyTypeObject WritingType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "logging_proxy.shortcut._compiled.Writing",
    .tp_basicsize = sizeof(Writing),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = writing_new,
    .tp_call = (ternaryfunc)writing_call,
    .tp_traverse = (traverseproc)writing_traverse,
    .tp_dealloc = (destructor)writing_dealloc,
};
