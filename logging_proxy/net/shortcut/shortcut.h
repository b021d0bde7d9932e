/*
 * The C extension: a fast path for streams and small exchanges.
 *
 * In Python an event of a stream takes about fifteen calls, each of which creates a few objects.  The functions here
 * do the same work in a single call.  Compiling the Python code (with mypyc) has not helped.
 *
 * No policy is implemented here.  Every unusual case (an incomplete chunk, a client that does not read, a full
 * spool, an error) is left to the Python code, which also documents the behaviour.  Without a compiler only the
 * speed is missing.
 *
 * The interpreter's lock (GIL) is held throughout, except for large reads and writes: a call on a non-blocking
 * socket returns sooner than the lock could be taken back from the spool's thread.
 *
 *   reading.c      Reader: reads a transport's socket
 *   read_buffer.c  chooses the memory for a piece of a large body, in the ring
 *   passing.c      FastPath: parses input, records it, and forwards it
 *   sending.c      Sender: sends on a transport's socket
 *   storing.c      Writing: stores records in the ring
 *   splitting.c    splits the spool's bytes into records, for the logging server
 *   files.c        creates a small file, for the logging server
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stddef.h>

#define HEADER 24   /* bytes of a record's header, see records.py */
#define SMALL 65536 /* largest read or send for which the GIL is kept */

/* Interned names of attributes. */
#define NAMES(each)                                                                                                    \
    each(ahead) each(bufferSize) each(capacity) each(dataBuffer) each(deadline) each(disconnecting) each(fileno) each(full)           \
    each(pass_on) each(sink) each(socket) each(stored) each(write) each(_buffer_offset) each(_bytes) each(_header)     \
    each(_losing) each(_mark) each(_piece) each(_read_size) each(_tempDataBuffer) each(_waiting)                       \
    each(_writeDisconnecting)

#define DECLARE(text) *text,
extern struct names {
    PyObject NAMES(DECLARE) *end;
} name;
#undef DECLARE

/* Defines how a type visits and releases its references, the fields from `first` to `last`.  There is no tp_clear:
   every cycle contains a Python object, and no field may be empty during the object's life. */
#define HOLDS(type, Type, first, last)                                                                                 \
    static int type##_traverse(Type *self, visitproc visit, void *arg)                                                 \
    {                                                                                                                  \
        for (PyObject **each = &self->first; each <= &self->last; each++)                                              \
            Py_VISIT(*each);                                                                                           \
        return 0;                                                                                                      \
    }                                                                                                                  \
                                                                                                                       \
    static void type##_dealloc(Type *self)                                                                             \
    {                                                                                                                  \
        PyObject_GC_UnTrack(self);                                                                                     \
        for (PyObject **each = &self->first; each <= &self->last; each++)                                              \
            Py_CLEAR(*each);                                                                                           \
        Py_TYPE(self)->tp_free((PyObject *)self);                                                                      \
    }

/* --- attributes.c */

/* 1 if the attribute is true, 0 if not, -1 with an exception. */
int is_true(PyObject *object, PyObject *attribute);

/* 1 if no attribute is true, 0 if one is, -1 with an exception. */
int none_is_true(PyObject *object, PyObject *const *attributes, int count);

/* 1 if the attribute is this very object, 0 if not, -1 with an exception. */
int is_still(PyObject *object, PyObject *attribute, PyObject *expected);

/* Reads or sets an integer attribute: 0, or -1 with an exception. */
int get_number(PyObject *object, PyObject *attribute, long long *number);
int set_number(PyObject *object, PyObject *attribute, long long number);

/* Discards the result of a call, whose reference it takes: 0, or -1 with an exception if it is NULL. */
int succeeded(PyObject *result);

/* Calls with one argument, whose reference it takes (NULL stands for an exception): 0, or -1 with an exception. */
int call_with(PyObject *callable, PyObject *argument);

/* The result of a socket's `fileno`; -1 without an exception if it is closed.  To be called before every use, since
   the system reuses the numbers of closed descriptors. */
int descriptor(PyObject *fileno);

/* --- sending.c */

typedef struct {
    PyObject_HEAD
    PyObject *transport, *failed, *fileno;
} Sender;

extern PyTypeObject SenderType;

/* 1 if nothing is queued in the transport, 0 if data has to be queued, -1 with an exception. */
int has_empty_queue(Sender *self);

/* How many bytes were sent, 0 if the transport has to send them; -1 with an exception.  Calls `failed` if the
   connection is lost. */
Py_ssize_t send_directly(Sender *self, const char *data, Py_ssize_t size);

/* How many sent bytes the peer has not acknowledged, according to the kernel. */
long long unreceived(Sender *self);

/* --- storing.c */

typedef struct {
    PyObject_HEAD
    PyObject *writer, *ring, *header, *bytes; /* the last two are the ring's views of its memory */
    PyObject *stored, *now;
    long long capacity;
} Writing;

extern PyTypeObject WritingType;

/* `CaptureWriter.write`: 1 if the records were stored, 0 if the caller has to check `full`, -1 with an exception. */
int write_records(Writing *self, PyObject *exchange, PyObject *records);

/* `CaptureWriter.read_buffer`: a view; NULL without an exception if there is no memory now, or with an exception. */
PyObject *read_buffer_in_ring(Writing *self, long long least, long long most);

/* --- passing.c */

typedef struct {
    PyObject_HEAD
    PyObject *source, *role, *receiver;     /* the connection that is read, and its attribute's expected value */
    PyObject *direction, *sink, *send;           /* the destination of the bytes */
    PyObject *exchange, *writer, *writing;  /* the recording; None if there is none */
    PyObject *kind;                         /* the kind of its records */
    PyObject *must_be_false;                /* pairs of an object and the name of an attribute */
    PyObject *counted, *shared;             /* a body with a length, or None, and the read buffer if unrecorded */
    PyObject *sending, *now, *no_flags;
    double patience;
    Py_ssize_t least, largest; /* bytes of a piece of a counted body */
    long long passed; /* bytes of payload so far */
    int checked; /* no data went through Python since the last piece, so that a chunked body needs no checks */
} FastPath;

extern PyTypeObject FastPathType;

/* 1 if the source's attribute is still `receiver`, 0 if not; -1 with an exception. */
int is_current(FastPath *self);

/* 1 if the preconditions hold, 0 if not, -1 with an exception. */
int preconditions_hold(FastPath *self);

/* 1 if `data` was recorded and forwarded, 0 if nothing was done, -1 with an exception. */
int forward(FastPath *self, const char *data, Py_ssize_t size);

/* The same for a piece of a counted body in the buffer of `read_buffer_of`: 1 if all of it was sent, 0 if not. */
int forward_piece(FastPath *self, PyObject *piece, const char *data, Py_ssize_t size);

/* --- read_buffer.c */

/* A read buffer for the next piece; NULL without an exception if Python has to choose it, or with an exception. */
PyObject *read_buffer_of(FastPath *self);

/* Doubles the size of the next read, after a successful one.  0, or -1 with an exception. */
int grow_read_size(FastPath *self);

/* --- reading.c */

extern PyTypeObject ReaderType;
extern PyObject *connection_done, *connection_lost; /* from twisted.internet.main */

/* --- files.c */

/* (path, data, directory's descriptor): True if the file was created, False if it existed. */
PyObject *create(PyObject *module, PyObject *args);

/* --- splitting.c */

/* (data, type of records, their kinds, largest payload): a list of records, and where the last one ends. */
PyObject *split(PyObject *module, PyObject *args);
