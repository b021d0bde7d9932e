/* A Writing stores records in the ring (`CaptureWriter.write`, `Ring.store`). */

#include "shortcut.h"

#include <string.h>

/* Indices of the numbers in the ring's header, as in ring.py: all but CAPACITY and MAGIC are stream offsets. */
enum { STORED, CAPACITY, TAKEN, MAGIC, NEXT_MARK, WAKE_AT };

typedef struct {
    long long stored, capacity, taken, next_mark;
} Offsets;

/* Acquires one of the ring's views of its memory; 0, or -1 with an exception, for example after `Ring.close`. */
static int
get_memory(PyObject *view, Py_buffer *memory)
{
    return PyObject_GetBuffer(view, memory, PyBUF_WRITABLE);
}

/*
 * 1; 0 if the numbers are inconsistent, -1 with an exception.
 *
 * They are in a file that other processes of the same user can write, so they are checked here to keep every access
 * within the ring.  The capacity is the one that the ring was created with.
 */
static int
get_offsets(Writing *self, Offsets *offsets)
{
    Py_buffer memory;
    if (get_memory(self->header, &memory) < 0)
        return -1;
    const long long *numbers = memory.buf;
    *offsets = (Offsets){numbers[STORED], self->capacity, numbers[TAKEN], numbers[NEXT_MARK]};
    PyBuffer_Release(&memory);
    return offsets->taken >= 0 && offsets->taken <= offsets->stored &&
           offsets->stored - offsets->taken <= offsets->capacity;
}

/* 1 while no records wait and none are lost, 0 otherwise, -1 with an exception. */
static int
nothing_waits(Writing *self)
{
    PyObject *const queues[] = {name._waiting, name._losing};
    return none_is_true(self->writer, queues, 2);
}

/* The value of an int that fits into a byte; -1 without an exception for any other object. */
static int
small_number(PyObject *number)
{
    int overflow;
    long value = PyLong_Check(number) ? PyLong_AsLongAndOverflow(number, &overflow) : -1;
    return value < 0 || value > 255 ? -1 : (int)value;
}

/* The payload of a record, borrowed; NULL without an exception unless the record is kind, flags, payload. */
static PyObject *
payload_of(PyObject *record)
{
    if (!PyTuple_Check(record) || PyTuple_GET_SIZE(record) != 3 || small_number(PyTuple_GET_ITEM(record, 0)) < 0 ||
        small_number(PyTuple_GET_ITEM(record, 1)) < 0)
        return NULL;
    return PyTuple_GET_ITEM(record, 2);
}

/* The records' total size; -1 without an exception if one of them is not kind, flags and a bytes payload. */
static Py_ssize_t
size_of(PyObject *records)
{
    Py_ssize_t total = 0;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(records); i++) {
        PyObject *payload = payload_of(PyTuple_GET_ITEM(records, i));
        if (payload == NULL || !PyBytes_CheckExact(payload))
            return -1;
        total += HEADER + PyBytes_GET_SIZE(payload);
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
put_header(unsigned char *to, PyObject *record, size_t size, unsigned long long exchange, unsigned long long time)
{
    put_number(to, size, 4);
    to[4] = (unsigned char)small_number(PyTuple_GET_ITEM(record, 0));
    to[5] = (unsigned char)small_number(PyTuple_GET_ITEM(record, 1));
    put_number(to + 6, 0, 2);
    put_number(to + 8, exchange, 8);
    put_number(to + 16, time, 8);
}

static void
put_records(unsigned char *to, PyObject *records, unsigned long long exchange, unsigned long long time)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(records); i++) {
        PyObject *record = PyTuple_GET_ITEM(records, i), *payload = PyTuple_GET_ITEM(record, 2);
        size_t size = (size_t)PyBytes_GET_SIZE(payload);
        put_header(to, record, size, exchange, time);
        memcpy(to + HEADER, PyBytes_AS_STRING(payload), size);
        to += HEADER + size;
    }
}

static int
mark(Writing *self)
{
    return succeeded(PyObject_CallMethodNoArgs(self->ring, name._mark));
}

/* Publishes the bytes that were copied into the ring, first in the file, for recovery after a crash; 0, or -1. */
static int
advance(Writing *self, long long next_mark, long long stored)
{
    Py_buffer header;
    if (get_memory(self->header, &header) < 0)
        return -1;
    /* One store, after all others: if the process is killed, the offset is either the old or the new one. */
    __atomic_store_n((unsigned long long *)header.buf + STORED, (unsigned long long)stored, __ATOMIC_RELEASE);
    PyBuffer_Release(&header);
    if (set_number(self->ring, name.stored, stored) < 0)
        return -1;
    return stored < next_mark ? 0 : mark(self);
}

/* Notifies the spool if its `wake_at` is reached: 0, or -1 with an exception. */
static int
notify_spool(Writing *self)
{
    Py_buffer header;
    if (get_memory(self->header, &header) < 0)
        return -1;
    const unsigned long long *numbers = header.buf;
    int due = numbers[STORED] >= numbers[WAKE_AT];
    PyBuffer_Release(&header);
    return due ? succeeded(PyObject_CallNoArgs(self->stored)) : 0;
}

static int
get_time(Writing *self, unsigned long long *time)
{
    PyObject *now = PyObject_CallNoArgs(self->now);
    *time = now == NULL ? 0 : PyLong_AsUnsignedLongLong(now);
    Py_XDECREF(now);
    return PyErr_Occurred() ? -1 : 0;
}

/* 1 if the records were stored, 0 if Python has to store them, -1 with an exception. */
static int
store(Writing *self, unsigned long long exchange, PyObject *records)
{
    Offsets offsets;
    Py_buffer memory;
    unsigned long long time;
    Py_ssize_t size = size_of(records);
    int usual = size > 0 ? nothing_waits(self) : 0;
    if (usual != 1)
        return usual;
    usual = get_offsets(self, &offsets);
    if (usual != 1)
        return usual;
    long long start = offsets.stored % offsets.capacity;
    if (size > offsets.capacity - offsets.stored + offsets.taken || start + size > offsets.capacity)
        return 0;
    if (get_time(self, &time) < 0 || get_memory(self->bytes, &memory) < 0)
        return -1;
    put_records((unsigned char *)memory.buf + start, records, exchange, time);
    PyBuffer_Release(&memory);
    return advance(self, offsets.next_mark, offsets.stored + size) < 0 ? -1 : 1;
}

/* --- pieces that were read into the ring */

PyObject *
read_buffer_in_ring(Writing *self, long long least, long long most)
{
    Offsets offsets;
    if (nothing_waits(self) != 1 || get_offsets(self, &offsets) != 1)
        return NULL;
    long long start = offsets.stored % offsets.capacity + HEADER, size = offsets.capacity - start;
    long long room = offsets.capacity - offsets.stored + offsets.taken - HEADER;
    size = size < room ? size : room;
    size = size < most ? size : most;
    if (size < least || set_number(self->ring, name._buffer_offset, offsets.stored) < 0)
        return NULL;
    return PySequence_GetSlice(self->bytes, start, start + size);
}

/* Size of the piece, if `records` is a single record with a view; -1 without an exception if it is not. */
static Py_ssize_t
size_of_piece(PyObject *records)
{
    PyObject *piece = PyTuple_GET_SIZE(records) == 1 ? payload_of(PyTuple_GET_ITEM(records, 0)) : NULL;
    return piece == NULL || !PyMemoryView_Check(piece) ? -1 : PyObject_Size(piece);
}

/* `Ring.store_read`: only the header has to be written.  1, 0 if Python has to do it, -1 with an exception. */
static int
store_read(Writing *self, unsigned long long exchange, PyObject *records)
{
    Offsets offsets;
    Py_buffer memory;
    unsigned long long time;
    long long offset, piece;
    Py_ssize_t size = size_of_piece(records);
    if (size < 0 || get_number(self->ring, name._buffer_offset, &offset) < 0 ||
        get_number(self->ring, name._piece, &piece) < 0)
        return PyErr_Occurred() ? -1 : 0;
    if (size >= piece && mark(self) < 0)
        return -1;
    int usual = get_offsets(self, &offsets);
    if (usual != 1 || get_time(self, &time) < 0)
        return usual != 1 ? usual : -1;
    if (offset != offsets.stored || offsets.stored % offsets.capacity + HEADER + size > offsets.capacity)
        return 0; /* a caller's mistake, which `Ring.store_read` reports */
    if (get_memory(self->bytes, &memory) < 0)
        return -1;
    put_header((unsigned char *)memory.buf + offsets.stored % offsets.capacity, PyTuple_GET_ITEM(records, 0),
               (size_t)size, exchange, time);
    PyBuffer_Release(&memory);
    long long stored = offsets.stored + HEADER + size;
    if (succeeded(PyObject_CallMethod(self->ring, "sum_up", "LL", offsets.stored + HEADER, (long long)size)) < 0)
        return -1;
    if (advance(self, offsets.next_mark, stored) < 0)
        return -1;
    return stored % offsets.capacity == 0 && mark(self) < 0 ? -1 : 1;
}

/* 1 if the records were stored, 0 if Python has to store them, -1 with an exception. */
static int
put(Writing *self, unsigned long long exchange, PyObject *records)
{
    if (!PyTuple_Check(records))
        return 0;
    int done = store(self, exchange, records);
    if (done == 0)
        done = store_read(self, exchange, records);
    return done == 1 && notify_spool(self) < 0 ? -1 : done;
}

int
write_records(Writing *self, PyObject *exchange, PyObject *records)
{
    unsigned long long number = PyLong_AsUnsignedLongLong(exchange);
    if (PyErr_Occurred())
        return -1;
    int done = put(self, number, records);
    if (done != 0)
        return done;
    return succeeded(PyObject_CallMethodObjArgs(self->writer, name.write, exchange, records, NULL));
}

static PyObject *
writing_call(Writing *self, PyObject *args, PyObject *kwargs)
{
    PyObject *exchange, *records;
    if (!PyArg_ParseTuple(args, "OO", &exchange, &records))
        return NULL;
    return write_records(self, exchange, records) < 0 ? NULL : Py_NewRef(Py_None);
}

HOLDS(writing, Writing, writer, now)

/* Checks that the views are as long as the ring's capacity requires; 0, or -1 with an exception. */
static int
check_views(Writing *self)
{
    Py_ssize_t header = PyObject_Size(self->header), bytes = PyObject_Size(self->bytes);
    if (header < 0 || bytes < 0)
        return -1;
    if (self->capacity > 0 && bytes == self->capacity && header > WAKE_AT)
        return 0;
    PyErr_SetString(PyExc_ValueError, "the ring's memory has another size");
    return -1;
}

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
    self->header = PyObject_GetAttr(ring, name._header);
    self->bytes = PyObject_GetAttr(ring, name._bytes);
    self->stored = Py_NewRef(stored);
    self->now = Py_NewRef(now);
    if (self->header == NULL || self->bytes == NULL || get_number(ring, name.capacity, &self->capacity) < 0 ||
        check_views(self) < 0)
        Py_CLEAR(self);
    return (PyObject *)self;
}

PyTypeObject WritingType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "logging_proxy.net.shortcut._compiled.Writing",
    .tp_basicsize = sizeof(Writing),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = writing_new,
    .tp_call = (ternaryfunc)writing_call,
    .tp_traverse = (traverseproc)writing_traverse,
    .tp_dealloc = (destructor)writing_dealloc,
};
