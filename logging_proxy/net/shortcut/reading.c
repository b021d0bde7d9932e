/* A Reader takes the place of a transport's `doRead` (`net.wire.read_directly`). */

#include "shortcut.h"

#include <errno.h>
#include <sys/socket.h>

#define TURN (1 << 20) /* bytes after which other connections get their turn */

PyObject *connection_done, *connection_lost;

typedef struct {
    PyObject_HEAD
    PyObject *socket, *fileno, *received, *read_buffer, *filled, *fast_path;
    Py_ssize_t smallest, largest, size;
} Reader;

/* The buffer of small reads.  It is taken away during use, since handling the data may read again. */
static char *small_buffer;

/* recv(2), repeated after interruptions; -1 with `errno` also if the socket is closed. */
static Py_ssize_t
receive(PyObject *fileno, char *to, Py_ssize_t size)
{
    int fd = descriptor(fileno);
    if (fd < 0) {
        errno = EBADF;
        return -1;
    }
    Py_ssize_t got;
    do {
        if (size <= SMALL)
            got = recv(fd, to, (size_t)size, 0);
        else {
            int error;
            Py_BEGIN_ALLOW_THREADS
            got = recv(fd, to, (size_t)size, 0);
            error = errno;
            Py_END_ALLOW_THREADS
            errno = error;
        }
    } while (got < 0 && errno == EINTR);
    return got;
}

/* The result of `doRead` after a read without data. */
static PyObject *
no_data_result(Py_ssize_t got)
{
    if (got == 0)
        return Py_NewRef(connection_done);
    return Py_NewRef(errno == EAGAIN || errno == EWOULDBLOCK ? Py_None : connection_lost);
}

/* Adapts the size of the next read: large after a filled read, small after one that would have fitted a small read. */
static int
adapt_size(Reader *self, Py_ssize_t got)
{
    Py_ssize_t size = self->size;
    if (got == size) {
        self->size = self->largest;
        if (size == self->smallest)
            return call_with(self->filled, Py_NewRef(self->socket));
    }
    else if (got < self->smallest)
        self->size = self->smallest;
    return 0;
}

/* Leaves `data`, whose reference it takes, to Python. */
static PyObject *
leave_to_python(Reader *self, PyObject *data)
{
    if (self->fast_path != NULL)
        ((FastPath *)self->fast_path)->checked = 0;
    PyObject *received = Py_NewRef(self->received);
    int failed = call_with(received, data);
    Py_DECREF(received);
    return failed < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
handle_data(Reader *self, const char *data, Py_ssize_t got)
{
    if (adapt_size(self, got) < 0)
        return NULL;
    if (self->fast_path != NULL) {
        FastPath *fast_path = (FastPath *)Py_NewRef(self->fast_path);
        int done = is_current(fast_path);
        if (done == 1)
            done = forward(fast_path, data, got);
        else if (done == 0)
            Py_CLEAR(self->fast_path);
        Py_DECREF(fast_path);
        if (done != 0)
            return done < 0 ? NULL : Py_NewRef(Py_None);
    }
    return leave_to_python(self, PyBytes_FromStringAndSize(data, got));
}

static PyObject *
read_small(Reader *self)
{
    char *to = small_buffer;
    small_buffer = NULL;
    if (to == NULL && (to = PyMem_Malloc(SMALL)) == NULL)
        return PyErr_NoMemory();
    Py_ssize_t got = receive(self->fileno, to, self->smallest);
    PyObject *result = got > 0 ? handle_data(self, to, got) : no_data_result(got);
    if (small_buffer == NULL)
        small_buffer = to;
    else
        PyMem_Free(to);
    return result;
}

static PyObject *
read_bytes(Reader *self)
{
    PyObject *data = PyBytes_FromStringAndSize(NULL, self->size);
    if (data == NULL)
        return NULL;
    Py_ssize_t got = receive(self->fileno, PyBytes_AS_STRING(data), self->size);
    if (got <= 0) {
        PyObject *result = no_data_result(got);
        Py_DECREF(data);
        return result;
    }
    if (_PyBytes_Resize(&data, got) < 0)
        return NULL;
    if (adapt_size(self, got) < 0) {
        Py_DECREF(data);
        return NULL;
    }
    return leave_to_python(self, data);
}

/* Reads into `buffer`: the number of bytes, or else the result of `doRead` in `result`. */
static Py_ssize_t
receive_into(Reader *self, PyObject *buffer, char **data, PyObject **result)
{
    Py_buffer memory;
    if (PyObject_GetBuffer(buffer, &memory, PyBUF_WRITABLE) < 0)
        return -1;
    Py_ssize_t got = receive(self->fileno, memory.buf, memory.len);
    if (got <= 0)
        *result = no_data_result(got);
    *data = memory.buf;
    PyBuffer_Release(&memory);
    return got;
}

static PyObject *
read_into(Reader *self, PyObject *buffer)
{
    char *data;
    PyObject *result = NULL;
    Py_ssize_t got = receive_into(self, buffer, &data, &result);
    if (got <= 0)
        return result;
    return adapt_size(self, got) < 0 ? NULL : leave_to_python(self, PySequence_GetSlice(buffer, 0, got));
}

static PyObject *
read_large(Reader *self)
{
    PyObject *buffer = PyObject_CallNoArgs(self->read_buffer);
    if (buffer == NULL)
        return NULL;
    PyObject *result = buffer == Py_None ? read_bytes(self) : read_into(self, buffer);
    Py_DECREF(buffer);
    return result;
}

/* Forwards the bytes in `buffer`: 1 if more may be available at once, 0 if not, -1 with an exception. */
static int
handle_piece(Reader *self, FastPath *fast_path, PyObject *buffer, const char *data, Py_ssize_t got)
{
    if (grow_read_size(fast_path) < 0 || adapt_size(self, got) < 0)
        return -1;
    Py_ssize_t size = PyObject_Size(buffer);
    PyObject *piece = got == size ? Py_NewRef(buffer) : PySequence_GetSlice(buffer, 0, got);
    int sent = piece == NULL ? -1 : forward_piece(fast_path, piece, data, got);
    Py_XDECREF(piece);
    return sent == 1 ? got == size : sent;
}

/* Reads and forwards pieces of a counted body while data is available and is sent at once, up to `TURN`. */
static PyObject *
read_pieces(Reader *self, FastPath *fast_path)
{
    Py_ssize_t read = 0, got;
    int more = 1;
    while (more == 1 && read < TURN) {
        int current = is_current(fast_path);
        PyObject *result = NULL, *buffer = current == 1 ? read_buffer_of(fast_path) : NULL;
        if (buffer == NULL) {
            if (PyErr_Occurred())
                return NULL;
            return read ? Py_NewRef(Py_None) : read_large(self);
        }
        char *data;
        got = receive_into(self, buffer, &data, &result);
        if (got > 0)
            more = handle_piece(self, fast_path, buffer, data, got);
        Py_DECREF(buffer);
        if (got <= 0)
            return result;
        read += got;
    }
    return more < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
reader_call(Reader *self, PyObject *args, PyObject *kwargs)
{
    if (self->size <= self->smallest)
        return read_small(self);
    FastPath *fast_path = (FastPath *)self->fast_path;
    if (fast_path == NULL || fast_path->counted == Py_None)
        return read_large(self);
    Py_INCREF(fast_path);
    PyObject *result = read_pieces(self, fast_path);
    Py_DECREF(fast_path);
    return result;
}

HOLDS(reader, Reader, socket, fast_path)

static PyObject *
reader_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *transport, *received, *read_buffer, *filled;
    Py_ssize_t largest;
    if (!PyArg_ParseTuple(args, "OOOOn:Reader", &transport, &received, &read_buffer, &filled, &largest))
        return NULL;
    Reader *self = (Reader *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    PyObject *smallest = PyObject_GetAttr(transport, name.bufferSize);
    self->smallest = smallest == NULL ? -1 : PyLong_AsSsize_t(smallest);
    Py_XDECREF(smallest);
    self->socket = PyErr_Occurred() ? NULL : PyObject_GetAttr(transport, name.socket);
    self->fileno = self->socket == NULL ? NULL : PyObject_GetAttr(self->socket, name.fileno);
    if (self->fileno == NULL) {
        Py_DECREF(self);
        return NULL;
    }
    if (self->smallest > SMALL)
        self->smallest = SMALL;
    self->largest = largest;
    self->size = self->smallest;
    self->received = Py_NewRef(received);
    self->read_buffer = Py_NewRef(read_buffer);
    self->filled = Py_NewRef(filled);
    return (PyObject *)self;
}

static int
set_fast_path(Reader *self, PyObject *value, void *closure)
{
    if (value == Py_None)
        value = NULL;
    if (value != NULL && !PyObject_TypeCheck(value, &FastPathType)) {
        PyErr_SetString(PyExc_TypeError, "a FastPath or None");
        return -1;
    }
    Py_XSETREF(self->fast_path, Py_XNewRef(value));
    return 0;
}

static PyObject *
get_fast_path(Reader *self, void *closure)
{
    return Py_NewRef(self->fast_path == NULL ? Py_None : self->fast_path);
}

static PyGetSetDef reader_attributes[] = {
    {"fast_path", (getter)get_fast_path, (setter)set_fast_path, NULL, NULL},
    {NULL},
};

PyTypeObject ReaderType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "logging_proxy.net.shortcut._compiled.Reader",
    .tp_basicsize = sizeof(Reader),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = reader_new,
    .tp_call = (ternaryfunc)reader_call,
    .tp_getset = reader_attributes,
    .tp_traverse = (traverseproc)reader_traverse,
    .tp_dealloc = (destructor)reader_dealloc,
};
