/*
 * The shortest way of a byte, in C: `wire.py` and `_shortcut.pyi` say what it is.
 *
 * An event of a stream costs 14 us of the interpreter, as much as of the kernel, and most of
 * that is spent on fetching, for each of a hundred streams, the many small objects that
 * one call after the other needs.  Here it needs few: 24 us an event instead of 29, Go 25.
 *
 * What is done here is only what is usual.  Whatever is not (a chunk that is not whole,
 * a client that does not read, a spool that is full, an error) goes the ordinary way, in Python;
 * so nothing is decided here, and where there is no compiler nothing is missing but the speed.
 *
 * The interpreter's lock is held throughout, but for large reads and writes: a socket that
 * does not block answers sooner than the lock could be had back from the spool's thread.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>

#define SMALL 65536 /* bytes that are read, or sent, without letting go of the interpreter's lock */
#define MOST_DIGITS 15 /* of a chunk's size, as in grammar.py: no overflow */

static PyObject *connection_done, *connection_lost; /* twisted.internet.main's */
static PyObject *zero;

/* Attributes, interned. */
static PyObject *name_bufferSize, *name_dataBuffer, *name_deadline, *name_disconnecting, *name_full, *name_pass_on,
    *name_socket, *name_write, *name__held, *name__last, *name__left, *name__receiver, *name__tempDataBuffer,
    *name__writeDisconnecting, *name__waiting;

/* 1 or 0 as the attribute is true or not, -1 with an exception. */
static int
is_true(PyObject *object, PyObject *name)
{
    PyObject *value = PyObject_GetAttr(object, name);
    if (value == NULL)
        return -1;
    int truth = PyObject_IsTrue(value);
    Py_DECREF(value);
    return truth;
}

/* 1 if none of the attributes is true, 0 if one is, -1 with an exception. */
static int
none_is_true(PyObject *object, PyObject *const *names, int count)
{
    for (int i = 0; i < count; i++) {
        int truth = is_true(object, names[i]);
        if (truth != 0)
            return truth < 0 ? -1 : 0;
    }
    return 1;
}

/* 1 if the attribute is this very object, 0 if not, -1 with an exception. */
static int
is_still(PyObject *object, PyObject *name, PyObject *expected)
{
    PyObject *value = PyObject_GetAttr(object, name);
    if (value == NULL)
        return -1;
    Py_DECREF(value);
    return value == expected;
}

/* Calls with one argument, which it takes over (NULL stands for an exception), for its effect: 0, or -1. */
static int
tell(PyObject *callable, PyObject *argument)
{
    if (argument == NULL)
        return -1;
    PyObject *result = PyObject_CallOneArg(callable, argument);
    Py_DECREF(argument);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* The socket's descriptor, -1 without an exception once it is closed: numbers are given to others again. */
static int
descriptor(PyObject *socket)
{
    int fd = PyObject_AsFileDescriptor(socket);
    if (fd < 0)
        PyErr_Clear();
    return fd;
}

/* ----------------------------------------------------------------------------------- Sender */

typedef struct {
    PyObject_HEAD
    PyObject *transport, *socket;
} Sender;

/* How many bytes have left at once, 0 where the transport must see to it; -1 with an exception. */
static Py_ssize_t
send_directly(Sender *self, const char *data, Py_ssize_t size)
{
    int fd = descriptor(self->socket);
    if (fd < 0)
        return 0;
    PyObject *const busy[] = {name_dataBuffer, name__tempDataBuffer, name_disconnecting, name__writeDisconnecting};
    int quiet = none_is_true(self->transport, busy, 4);
    if (quiet != 1)
        return quiet;
    Py_ssize_t sent;
    if (size <= SMALL)
        sent = send(fd, data, (size_t)size, 0);
    else {
        Py_BEGIN_ALLOW_THREADS
        sent = send(fd, data, (size_t)size, 0);
        Py_END_ALLOW_THREADS
    }
    /* After an error the reactor's own attempt will fail as well and report the loss in the usual way. */
    return sent < 0 ? 0 : sent;
}

static PyObject *
sender_call(Sender *self, PyObject *args, PyObject *kwargs)
{
    Py_buffer data;
    if (!PyArg_ParseTuple(args, "y*", &data))
        return NULL;
    PyObject *result = NULL;
    Py_ssize_t sent = data.len == 0 ? 0 : send_directly(self, data.buf, data.len);
    if (sent == data.len)
        result = Py_NewRef(Py_True);
    else if (sent >= 0) {
        PyObject *rest = PyBytes_FromStringAndSize((char *)data.buf + sent, data.len - sent);
        PyObject *written = rest == NULL ? NULL : PyObject_CallMethodOneArg(self->transport, name_write, rest);
        if (written != NULL)
            result = Py_NewRef(Py_False);
        Py_XDECREF(rest);
        Py_XDECREF(written);
    }
    PyBuffer_Release(&data);
    return result;
}

static int
sender_traverse(Sender *self, visitproc visit, void *arg)
{
    Py_VISIT(self->transport);
    Py_VISIT(self->socket);
    return 0;
}

static int
sender_clear(Sender *self)
{
    Py_CLEAR(self->transport);
    Py_CLEAR(self->socket);
    return 0;
}

static void
sender_dealloc(Sender *self)
{
    PyObject_GC_UnTrack(self);
    sender_clear(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyObject *
sender_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *transport;
    if (!PyArg_ParseTuple(args, "O:Sender", &transport))
        return NULL;
    Sender *self = (Sender *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->transport = Py_NewRef(transport);
    self->socket = PyObject_GetAttr(transport, name_socket);
    if (self->socket == NULL)
        Py_CLEAR(self);
    return (PyObject *)self;
}

static PyTypeObject SenderType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "logging_proxy._shortcut.Sender",
    .tp_basicsize = sizeof(Sender),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = sender_new,
    .tp_call = (ternaryfunc)sender_call,
    .tp_traverse = (traverseproc)sender_traverse,
    .tp_clear = (inquiry)sender_clear,
    .tp_dealloc = (destructor)sender_dealloc,
};

/* ---------------------------------------------------------------------------------- Passage */

typedef struct {
    PyObject_HEAD
    PyObject *source, *body, *half, *send, *passed, *writer, *kind, *now;
    double patience;
    int usual; /* what came last passed here: then body and half are as they were, and need no look */
} Passage;

static int
hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Where the payload of the chunk at `data` begins, and its size; NULL if it is not a plain chunk, here from
   size line to CRLF.  The last chunk is none: what follows it is for others. */
static const char *
whole_chunk(const char *data, const char *end, size_t *size)
{
    const char *at = data;
    int digit;
    *size = 0;
    while (at < end && at - data < MOST_DIGITS && (digit = hex_digit(*at)) >= 0) {
        *size = *size << 4 | (size_t)digit;
        at++;
    }
    if (at == data || *size == 0 || end - at < 4 || at[0] != '\r' || at[1] != '\n')
        return NULL;
    at += 2;
    if (*size > (size_t)(end - at) - 2 || at[*size] != '\r' || at[*size + 1] != '\n')
        return NULL;
    return at;
}

/* The payload of `data`, if that is plain chunks, all of them whole; NULL, and perhaps an exception, if not. */
static PyObject *
payload_of_chunks(const char *data, Py_ssize_t length)
{
    const char *end = data + length, *at, *chunk;
    size_t size, total = 0;
    for (at = data; at < end; at = chunk + size + 2) {
        chunk = whole_chunk(at, end, &size);
        if (chunk == NULL)
            return NULL;
        total += size;
    }
    PyObject *payload = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)total);
    if (payload == NULL)
        return NULL;
    char *to = PyBytes_AS_STRING(payload);
    for (at = data; at < end; at = chunk + size + 2) {
        chunk = whole_chunk(at, end, &size);
        memcpy(to, chunk, size);
        to += size;
    }
    return payload;
}

/* 1 while the body's reader waits for a size line and nothing waits in the half, 0 if not, -1 with an exception. */
static int
is_usual(Passage *self)
{
    PyObject *const amid[] = {name__held, name__left, name__last};
    int usual = none_is_true(self->body, amid, 3);
    return usual == 1 ? none_is_true(self->half, &name__waiting, 1) : usual;
}

/* The source has time again; 0, or -1 with an exception. */
static int
postpone(Passage *self)
{
    PyObject *now = PyObject_CallNoArgs(self->now);
    if (now == NULL)
        return -1;
    double seconds = PyFloat_AsDouble(now);
    Py_DECREF(now);
    if (seconds == -1.0 && PyErr_Occurred())
        return -1;
    PyObject *deadline = PyFloat_FromDouble(seconds + self->patience);
    if (deadline == NULL)
        return -1;
    int result = PyObject_SetAttr(self->source, name_deadline, deadline);
    Py_DECREF(deadline);
    return result;
}

/* `data`, which has been recorded, on to the sink, or to the half if it must wait; 0, or -1 with an exception. */
static int
pass_on(Passage *self, const char *data, Py_ssize_t size)
{
    Py_ssize_t sent = self->writer == Py_None ? 1 : none_is_true(self->writer, &name_full, 1);
    if (sent == 1)
        sent = send_directly((Sender *)self->send, data, size);
    if (sent < 0)
        return -1;
    if (sent == size)
        return 0;
    self->usual = 0;
    PyObject *rest = PyBytes_FromStringAndSize(data + sent, size - sent);
    PyObject *done = rest == NULL ? NULL : PyObject_CallMethodOneArg(self->half, name_pass_on, rest);
    Py_XDECREF(rest);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* 1 if `data` has been recorded and passed on, 0 if nothing has been done, -1 with an exception. */
static int
pass_along(Passage *self, const char *data, Py_ssize_t size)
{
    int usual = self->usual ? 1 : is_usual(self);
    if (usual != 1)
        return usual;
    PyObject *payload = payload_of_chunks(data, size);
    if (payload == NULL)
        return PyErr_Occurred() ? -1 : 0;
    int failed = postpone(self);
    if (!failed && self->passed != Py_None)
        failed = tell(self->passed, PyTuple_Pack(3, self->kind, zero, payload));
    Py_DECREF(payload);
    if (failed)
        return -1;
    self->usual = 1;
    return pass_on(self, data, size) < 0 ? -1 : 1;
}

static int
passage_traverse(Passage *self, visitproc visit, void *arg)
{
    for (PyObject **each = &self->source; each <= &self->now; each++)
        Py_VISIT(*each);
    return 0;
}

static int
passage_clear(Passage *self)
{
    for (PyObject **each = &self->source; each <= &self->now; each++)
        Py_CLEAR(*each);
    return 0;
}

static void
passage_dealloc(Passage *self)
{
    PyObject_GC_UnTrack(self);
    passage_clear(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyObject *
passage_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"source", "body", "half", "send", "passed", "writer", "kind", "now", "patience", NULL};
    PyObject *source, *body, *half, *send, *passed, *writer, *kind, *now;
    double patience;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "$OOOO!OOOOd:Passage", names, &source, &body, &half,
                                     &SenderType, &send, &passed, &writer, &kind, &now, &patience))
        return NULL;
    Passage *self = (Passage *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->source = Py_NewRef(source);
    self->body = Py_NewRef(body);
    self->half = Py_NewRef(half);
    self->send = Py_NewRef(send);
    self->passed = Py_NewRef(passed);
    self->writer = Py_NewRef(writer);
    self->kind = Py_NewRef(kind);
    self->now = Py_NewRef(now);
    self->patience = patience;
    return (PyObject *)self;
}

static PyTypeObject PassageType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "logging_proxy._shortcut.Passage",
    .tp_basicsize = sizeof(Passage),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = passage_new,
    .tp_traverse = (traverseproc)passage_traverse,
    .tp_clear = (inquiry)passage_clear,
    .tp_dealloc = (destructor)passage_dealloc,
};

/* ----------------------------------------------------------------------------------- Reader */

typedef struct {
    PyObject_HEAD
    PyObject *socket, *received, *landing, *filled, *passage;
    Py_ssize_t smallest, largest, size;
} Reader;

/* Where a small read goes.  It is taken away while in use, for what it leads to may read as well. */
static char *place;

/* As recv(2), but for interruptions; -1 and `errno` also when the socket is closed. */
static Py_ssize_t
receive(PyObject *socket, char *to, Py_ssize_t size)
{
    int fd = descriptor(socket);
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

/* What the reactor is told when a read gave nothing. */
static PyObject *
nothing(Py_ssize_t got)
{
    if (got == 0)
        return Py_NewRef(connection_done);
    return Py_NewRef(errno == EAGAIN || errno == EWOULDBLOCK ? Py_None : connection_lost);
}

/* The next read is larger after one that was filled, and small again after one that was not worth it. */
static int
learn(Reader *self, Py_ssize_t got)
{
    Py_ssize_t size = self->size;
    if (got == size) {
        self->size = self->largest;
        if (size == self->smallest)
            return tell(self->filled, Py_NewRef(self->socket));
    }
    else if (got < self->smallest)
        self->size = self->smallest;
    return 0;
}

/* The ordinary way for `data`, which is taken over. */
static PyObject *
hand_over(Reader *self, PyObject *data)
{
    if (self->passage != NULL && self->passage != Py_None)
        ((Passage *)self->passage)->usual = 0;
    PyObject *received = Py_NewRef(self->received);
    int told = tell(received, data);
    Py_DECREF(received);
    return told < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
take(Reader *self, const char *data, Py_ssize_t got)
{
    if (learn(self, got) < 0)
        return NULL;
    if (self->passage != NULL && self->passage != Py_None) {
        Passage *passage = (Passage *)Py_NewRef(self->passage);
        int done = is_still(passage->source, name__receiver, passage->half);
        if (done == 1)
            done = pass_along(passage, data, got);
        else if (done == 0)
            Py_CLEAR(self->passage);
        Py_DECREF(passage);
        if (done != 0)
            return done < 0 ? NULL : Py_NewRef(Py_None);
    }
    return hand_over(self, PyBytes_FromStringAndSize(data, got));
}

static PyObject *
read_little(Reader *self)
{
    char *to = place;
    place = NULL;
    if (to == NULL && (to = PyMem_Malloc(SMALL)) == NULL)
        return PyErr_NoMemory();
    Py_ssize_t got = receive(self->socket, to, self->smallest);
    PyObject *result = got > 0 ? take(self, to, got) : nothing(got);
    if (place == NULL)
        place = to;
    else
        PyMem_Free(to);
    return result;
}

static PyObject *
read_much(Reader *self)
{
    PyObject *data = PyBytes_FromStringAndSize(NULL, self->size);
    if (data == NULL)
        return NULL;
    Py_ssize_t got = receive(self->socket, PyBytes_AS_STRING(data), self->size);
    if (got <= 0) {
        PyObject *result = nothing(got);
        Py_DECREF(data);
        return result;
    }
    if (_PyBytes_Resize(&data, got) < 0)
        return NULL;
    if (learn(self, got) < 0) {
        Py_DECREF(data);
        return NULL;
    }
    return hand_over(self, data);
}

static PyObject *
read_into(Reader *self, PyObject *land)
{
    Py_buffer memory;
    if (PyObject_GetBuffer(land, &memory, PyBUF_WRITABLE) < 0)
        return NULL;
    Py_ssize_t got = receive(self->socket, memory.buf, memory.len);
    PyObject *result = got > 0 ? NULL : nothing(got);
    PyBuffer_Release(&memory);
    if (result != NULL)
        return result;
    return learn(self, got) < 0 ? NULL : hand_over(self, PySequence_GetSlice(land, 0, got));
}

static PyObject *
reader_call(Reader *self, PyObject *args, PyObject *kwargs)
{
    if (self->size <= self->smallest)
        return read_little(self);
    PyObject *land = PyObject_CallNoArgs(self->landing);
    if (land == NULL)
        return NULL;
    PyObject *result = land == Py_None ? read_much(self) : read_into(self, land);
    Py_DECREF(land);
    return result;
}

static int
reader_traverse(Reader *self, visitproc visit, void *arg)
{
    for (PyObject **each = &self->socket; each <= &self->passage; each++)
        Py_VISIT(*each);
    return 0;
}

static int
reader_clear(Reader *self)
{
    for (PyObject **each = &self->socket; each <= &self->passage; each++)
        Py_CLEAR(*each);
    return 0;
}

static void
reader_dealloc(Reader *self)
{
    PyObject_GC_UnTrack(self);
    reader_clear(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyObject *
reader_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *transport, *received, *landing, *filled;
    Py_ssize_t largest;
    if (!PyArg_ParseTuple(args, "OOOOn:Reader", &transport, &received, &landing, &filled, &largest))
        return NULL;
    Reader *self = (Reader *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    PyObject *smallest = PyObject_GetAttr(transport, name_bufferSize);
    self->smallest = smallest == NULL ? -1 : PyLong_AsSsize_t(smallest);
    Py_XDECREF(smallest);
    self->socket = PyErr_Occurred() ? NULL : PyObject_GetAttr(transport, name_socket);
    if (self->socket == NULL) {
        Py_DECREF(self);
        return NULL;
    }
    if (self->smallest > SMALL)
        self->smallest = SMALL;
    self->largest = largest;
    self->size = self->smallest;
    self->received = Py_NewRef(received);
    self->landing = Py_NewRef(landing);
    self->filled = Py_NewRef(filled);
    return (PyObject *)self;
}

static int
set_passage(Reader *self, PyObject *value, void *closure)
{
    if (value != NULL && value != Py_None && !PyObject_TypeCheck(value, &PassageType)) {
        PyErr_SetString(PyExc_TypeError, "a Passage or None");
        return -1;
    }
    Py_XSETREF(self->passage, Py_XNewRef(value));
    return 0;
}

static PyObject *
get_passage(Reader *self, void *closure)
{
    return Py_NewRef(self->passage == NULL ? Py_None : self->passage);
}

static PyGetSetDef reader_attributes[] = {
    {"passage", (getter)get_passage, (setter)set_passage, NULL, NULL},
    {NULL},
};

static PyTypeObject ReaderType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "logging_proxy._shortcut.Reader",
    .tp_basicsize = sizeof(Reader),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = reader_new,
    .tp_call = (ternaryfunc)reader_call,
    .tp_getset = reader_attributes,
    .tp_traverse = (traverseproc)reader_traverse,
    .tp_clear = (inquiry)reader_clear,
    .tp_dealloc = (destructor)reader_dealloc,
};

/* ----------------------------------------------------------------------------------- module */

static int
intern_names(void)
{
#define NAME(text) {&name_##text, #text}
    const struct {
        PyObject **name;
        const char *text;
    } names[] = {
        NAME(bufferSize), NAME(dataBuffer), NAME(deadline),        NAME(disconnecting),        NAME(full),
        NAME(pass_on),    NAME(socket),     NAME(write),           NAME(_held),                NAME(_last),
        NAME(_left),      NAME(_receiver),  NAME(_tempDataBuffer), NAME(_writeDisconnecting),  NAME(_waiting),
    };
#undef NAME
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if ((*names[i].name = PyUnicode_InternFromString(names[i].text)) == NULL)
            return -1;
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

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "logging_proxy._shortcut",
    .m_size = -1,
};

PyMODINIT_FUNC
PyInit__shortcut(void)
{
    zero = PyLong_FromLong(0);
    if (zero == NULL || intern_names() < 0 || learn_reasons() < 0)
        return NULL;
    PyObject *module = PyModule_Create(&definition);
    if (module == NULL)
        return NULL;
    if (PyModule_AddType(module, &SenderType) < 0 || PyModule_AddType(module, &PassageType) < 0 ||
        PyModule_AddType(module, &ReaderType) < 0)
        Py_CLEAR(module);
    return module;
}
