/*
 * The shortest way of a byte, in C: what is usual of a stream, done in one go.
 *
 * An event of a stream costs 13 us of the interpreter, nearly as much as of the kernel: fifteen calls, each
 * with a few objects of its own, of each of a hundred streams.  Here it is 6 us; the whole event 21 us instead
 * of 28, where Go needs 25.  Compiling the same calls (with mypyc) gained nothing.
 *
 * Nothing is decided here.  Whatever is not usual (a chunk that is not whole, a client that does not
 * read, a spool that is full, an error) goes the ordinary way, in Python, which is where all of it is
 * explained; and where there is no compiler nothing is missing but the speed.
 *
 * The interpreter's lock is held throughout, but for large reads and writes: a socket that
 * does not block answers sooner than the lock could be had back from the spool's thread.
 *
 *   reading.c   a Reader reads a transport's socket
 *   landing.c   where it reads a piece of a large body: into the ring
 *   passing.c   a Passage takes what it read apart, has it recorded, and passes it on
 *   sending.c   a Sender sends on a transport's socket
 *   storing.c   a Writing stores records in the ring
 *   splitting.c takes records out of the spool's bytes, for the logging server
 *   files.c     makes a small file, likewise
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stddef.h>

#define HEADER 24   /* bytes of a record in front of its payload, see records.py */
#define SMALL 65536 /* bytes that are read, or sent, without letting go of the interpreter's lock */

/* Attributes, interned. */
#define NAMES(each)                                                                                                    \
    each(ahead) each(bufferSize) each(capacity) each(dataBuffer) each(deadline) each(disconnecting) each(fileno) each(full)           \
    each(pass_on) each(sink) each(socket) each(stored) each(write) each(_bytes) each(_header) each(_landing)           \
    each(_losing) each(_mark) each(_piece) each(_stride) each(_tempDataBuffer) each(_waiting)                          \
    each(_writeDisconnecting)

#define DECLARE(text) *text,
extern struct names {
    PyObject NAMES(DECLARE) *end;
} name;
#undef DECLARE

/* How a type visits and lets go of its references, which lie from one field to another.  Nothing is cleared: a
   cycle always has an object of Python in it, and until the end no field of ours can be found empty. */
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

/* 1 or 0 as the attribute is true or not, -1 with an exception. */
int is_true(PyObject *object, PyObject *attribute);

/* 1 if none of the attributes is true, 0 if one is, -1 with an exception. */
int none_is_true(PyObject *object, PyObject *const *attributes, int count);

/* 1 if the attribute is this very object, 0 if not, -1 with an exception. */
int is_still(PyObject *object, PyObject *attribute, PyObject *expected);

/* An attribute that is a number; 0, or -1 with an exception. */
int get_number(PyObject *object, PyObject *attribute, long long *number);
int set_number(PyObject *object, PyObject *attribute, long long number);

/* What a call gave, which is taken over, was for its effect: 0, or -1 with an exception. */
int succeeded(PyObject *result);

/* Calls with one argument, which it takes over (NULL stands for an exception), for its effect: 0, or -1. */
int tell(PyObject *callable, PyObject *argument);

/* What a socket's `fileno` says, -1 without an exception once it is closed: numbers are given to others again. */
int descriptor(PyObject *fileno);

/* --- sending.c */

typedef struct {
    PyObject_HEAD
    PyObject *transport, *failed, *fileno;
} Sender;

extern PyTypeObject SenderType;

/* 1 if nothing waits in the transport, 0 if what is sent must wait there, -1 with an exception. */
int is_quiet(Sender *self);

/* How many bytes have left at once, 0 where the transport must see to it; -1 with an exception.  A send that has met
   the loss of the connection is told to `failed`. */
Py_ssize_t send_directly(Sender *self, const char *data, Py_ssize_t size);

/* How many bytes that were sent have not been received yet, as far as the kernel says. */
long long unreceived(Sender *self);

/* --- storing.c */

typedef struct {
    PyObject_HEAD
    PyObject *writer, *ring, *header, *bytes; /* the ring's last two are views of its memory */
    PyObject *stored, *now;
    long long capacity;
} Writing;

extern PyTypeObject WritingType;

/* `CaptureWriter.write`: 1 if nothing waits behind it, 0 if that has to be looked at, -1 with an exception. */
int write_records(Writing *self, PyObject *exchange, PyObject *records);

/* `CaptureWriter.landing`: a view, NULL if there is none now, perhaps with an exception. */
PyObject *landing_in_ring(Writing *self, long long least, long long most);

/* --- passing.c */

typedef struct {
    PyObject_HEAD
    PyObject *source, *role, *receiver;     /* whose bytes, and for whom */
    PyObject *direction, *sink, *send;           /* where they go */
    PyObject *exchange, *writer, *writing;  /* where they are recorded, None if they are not */
    PyObject *kind;                         /* what they are recorded as */
    PyObject *unusual;                      /* pairs of an object and what must not be true of it */
    PyObject *counted, *shared;             /* a body with a length, or None, and where it is read to if unrecorded */
    PyObject *sending, *now, *no_flags;
    double patience;
    Py_ssize_t least, largest; /* bytes of a piece of a counted body */
    int usual;                 /* what came last passed here: then a chunked body is as it was, and needs no look */
} Passage;

extern PyTypeObject PassageType;

/* Whether its receiver is still who the source's bytes are for; -1 with an exception. */
int is_current(Passage *self);

/* 1 if nothing is unusual, 0 if something is, -1 with an exception. */
int is_usual(Passage *self);

/* 1 if `data` has been recorded and passed on, 0 if nothing has been done, -1 with an exception. */
int pass_along(Passage *self, const char *data, Py_ssize_t size);

/* As much of a counted body, read to where `landing_of` said; 1 if it has left, 0 if not all of it has, -1. */
int pass_piece(Passage *self, PyObject *piece, const char *data, Py_ssize_t size);

/* --- landing.c */

/* A view of where to read the next piece to; NULL if the ordinary way knows better, perhaps with an exception. */
PyObject *landing_of(Passage *self);

/* Something came: more is asked for the next time.  0, or -1 with an exception. */
int lengthen_stride(Passage *self);

/* --- reading.c */

extern PyTypeObject ReaderType;
extern PyObject *connection_done, *connection_lost; /* twisted.internet.main's */

/* --- files.c */

/* Of a path, bytes and a directory's descriptor: True if the new file is there, False if there was one. */
PyObject *create(PyObject *module, PyObject *args);

/* --- splitting.c */

/* Of bytes, the type of records, their kinds and the largest payload: a list, and where it ends. */
PyObject *split(PyObject *module, PyObject *args);
