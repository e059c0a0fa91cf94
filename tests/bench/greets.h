/* What the least C programs of `make bench` have in common: whether a mail server greets. */
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { TIMEOUT = 10000 };

static int ready(int fd, short events)
{
	return poll(&(struct pollfd){ fd, events, 0 }, 1, TIMEOUT) > 0;
}

static int greets(const struct addrinfo *address)
{
	socklen_t size = sizeof(int);
	char reply[512];
	int fd, error = 0, up = 0;

	fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if ((!connect(fd, address->ai_addr, address->ai_addrlen) || errno == EINPROGRESS) && ready(fd, POLLOUT)
	    && !getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) && !error && ready(fd, POLLIN))
		up = read(fd, reply, sizeof reply) >= 4 && !memcmp(reply, "220 ", 4) && write(fd, "QUIT\r\n", 6) == 6;
	close(fd);
	return up;
}

/* The addresses of a host; null if there are none. They are never freed: a program without free() gets musl's smallest
 * allocator. */
static struct addrinfo *look_up(const char *host, const char *port)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV }, *addresses;

	return getaddrinfo(host, port, &hints, &addresses) ? 0 : addresses;
}
