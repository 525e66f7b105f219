# Datagrams between the processes of a host, sent and received without giving the GIL away: they
# never wait, and who gives it away may get it back a switch interval later. Nothing can come
# between asking a socket for its descriptor and using that, which may be another one's by then.

cdef extern from "Python.h":
    int PyObject_AsFileDescriptor(object) except -1

cdef extern from *:
    """
    #include <errno.h>
    #include <stddef.h>
    #include <sys/socket.h>
    #include <sys/un.h>

    #ifndef MSG_NOSIGNAL
    #define MSG_NOSIGNAL 0
    #endif

    /* 0, or the error's number. */
    static int tiered_send_to(int fd, const char *data, size_t size, const char *path, size_t length)
    {
        struct sockaddr_un to;
        if (length >= sizeof(to.sun_path)) return ENAMETOOLONG;
        memset(&to, 0, sizeof(to));
        to.sun_family = AF_UNIX;
        memcpy(to.sun_path, path, length);
        ssize_t sent = sendto(fd, data, size, MSG_DONTWAIT | MSG_NOSIGNAL, (struct sockaddr *)&to,
                              (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length + 1));
        return sent < 0 ? errno : 0;
    }

    /* Its size, or -1. */
    static ssize_t tiered_receive(int fd, char *data, size_t most)
    {
        return recv(fd, data, most, MSG_DONTWAIT);
    }
    """
    const int EBADF
    int tiered_send_to(int, const char*, size_t, const char*, size_t) noexcept
    ssize_t tiered_receive(int, char*, size_t) noexcept


def send_datagram(sender, bytes data not None, bytes path not None):
    """See ``tiered.coherence.zeromq.neighbours``, which has the twin."""
    cdef int descriptor
    try:
        descriptor = PyObject_AsFileDescriptor(sender)
    except ValueError:  # it is closed
        return EBADF
    return tiered_send_to(
        descriptor, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data),
        PyBytes_AS_STRING(path), PyBytes_GET_SIZE(path),
    )


def receive_datagram(receiver, Py_ssize_t most):
    """See there."""
    cdef bytes data = PyBytes_FromStringAndSize(NULL, most)
    cdef int descriptor
    cdef ssize_t size
    try:
        descriptor = PyObject_AsFileDescriptor(receiver)
    except ValueError:
        return None
    size = tiered_receive(descriptor, PyBytes_AS_STRING(data), most)
    return None if size < 0 else PyBytes_FromStringAndSize(PyBytes_AS_STRING(data), size)
