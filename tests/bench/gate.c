/* The floor under the gate, for `make bench`: the least C that answers Postfix's policy questions as it does, with a
 * child for each, with neither options nor rules nor a memory, and with blocking calls one after another.
 * gate stop   Those MX of the recipient's domain that are preferred to the one with an address of `stop` are asked in
 * the order of the answer; the first that greets with 220 is the answer. */
#include <arpa/nameser.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <resolv.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { TIMEOUT = 10000, QUESTION = 4096, SERVERS = 16 };

static int ready(int fd, short events)
{
	return poll(&(struct pollfd){ fd, events, 0 }, 1, TIMEOUT) > 0;
}

/* As in floor.c, lists of addresses are never freed. */
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

static int share(const struct addrinfo *ones, const struct addrinfo *others)
{
	for (; ones; ones = ones->ai_next)
		for (const struct addrinfo *other = others; other; other = other->ai_next)
			if (ones->ai_addrlen == other->ai_addrlen && !memcmp(ones->ai_addr, other->ai_addr, ones->ai_addrlen))
				return 1;
	return 0;
}

/* Prints the name of a better server that is up. */
static void check(const char *domain, const char *stop, int out)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV }, *stops, *servers[SERVERS];
	unsigned char answer[4096];
	char names[SERVERS][NS_MAXDNAME];
	int length, count = 0, preferences[SERVERS], last = -1;
	ns_msg message;
	ns_rr record;

	if ((length = res_query(domain, ns_c_in, ns_t_mx, answer, sizeof answer)) < 0
	    || ns_initparse(answer, length, &message) || getaddrinfo(stop, "25", &hints, &stops))
		return;
	for (int i = 0; i < ns_msg_count(message, ns_s_an) && count < SERVERS; i++)
		if (!ns_parserr(&message, ns_s_an, i, &record) && ns_rr_type(record) == ns_t_mx
		    && dn_expand(answer, answer + length, ns_rr_rdata(record) + 2, names[count], NS_MAXDNAME) > 0
		    && !getaddrinfo(names[count], "25", &hints, &servers[count])) {
			preferences[count] = ns_get16(ns_rr_rdata(record));
			if (share(servers[count], stops))
				last = preferences[count];
			count++;
		}
	for (int i = 0; i < count; i++)
		for (; preferences[i] < last && servers[i]; servers[i] = servers[i]->ai_next)
			if (greets(servers[i])) {
				(void)!write(out, names[i], strlen(names[i]));
				return;
			}
}

static int answer(char *domain, const char *stop)
{
	char line[1100] = "action=DEFER_IF_PERMIT 4.3.2 Please use ";
	size_t length = strlen(line);
	int pipe_fds[2];
	ssize_t count;
	pid_t child;

	domain[strcspn(domain, "\n")] = 0;
	if (pipe2(pipe_fds, O_CLOEXEC) || (child = fork()) < 0)
		return -1;
	if (!child) {
		check(domain, stop, pipe_fds[1]);
		_exit(0);
	}
	close(pipe_fds[1]);
	count = read(pipe_fds[0], line + length, sizeof line - length - 2);
	close(pipe_fds[0]);
	waitpid(child, 0, 0);
	if (count <= 0)
		return write(1, "action=DUNNO\n\n", 14);
	memcpy(line + length + count, "\n\n", 2);
	return write(1, line, length + count + 2);
}

int main(int argc, char **argv)
{
	static char question[QUESTION + 1];
	size_t length = 0;
	ssize_t count;
	char *domain;

	while (argc == 2 && (count = read(0, question + length, QUESTION - length)) > 0) {
		question[length += count] = 0;
		if (length < 2 || memcmp(question + length - 2, "\n\n", 2))
			continue;
		domain = strstr(question, "\nrecipient=");
		if (!domain || !(domain = strchr(domain, '@')) || answer(domain + 1, argv[1]) < 0)
			return 1;
		length = 0;
	}
	return 0;
}
