/* The floor under the gate, for `make bench`: the least C that answers Postfix's policy questions as it does, with a
 * child for each, with neither options nor rules nor a memory, and with blocking calls one after another.
 * gate stop   Those MX of the recipient's domain that are preferred to the one with an address of `stop` are asked in
 * the order of the answer; the first that greets with 220 is the answer. */
#include <fcntl.h>
#include <sys/wait.h>

#include "greets.h"
#include "servers.h"

enum { QUESTION = 4096 };

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
	static struct server servers[SERVERS];
	struct addrinfo *stops, *addresses[SERVERS];
	int count = servers_of(domain, servers), last = -1;

	if (!(stops = look_up(stop, "25")))
		return;
	for (int i = 0; i < count; i++) {
		addresses[i] = look_up(servers[i].name, "25");
		if (share(addresses[i], stops))
			last = servers[i].preference;
	}
	for (int i = 0; i < count; i++)
		for (; servers[i].preference < last && addresses[i]; addresses[i] = addresses[i]->ai_next)
			if (greets(addresses[i])) {
				(void)!write(out, servers[i].name, strlen(servers[i].name));
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
