/* Clients of a mail server, for `make bench`, as smtp-source is, but for servers whose sockets have a small backlog.
 * sessions address port sessions count   Sends so many recipients, one a connection, so many at a time; each must be
 * deferred. Prints the seconds that it took, and the median of the waits for an answer in microseconds. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* OpenSMTPD's backlog is five: of more clients that wait for its greeting, some wait for seconds or for ever. */
enum { GREETINGS = 4, MOST = 1000, TIMEOUT = 60000 };

enum { GREETING, HELO, MAIL, RCPT, QUIT, STEPS };

static const struct {
	const char *command, *reply;
} steps[STEPS] = {
	{ "", "220" },
	{ "HELO sender.example.net\r\n", "250" },
	{ "MAIL FROM:<from@example.net>\r\n", "250" },
	{ "RCPT TO:<to@example.org>\r\n", "450 4.3.2 " },
	{ "QUIT\r\n", "221" },
};

#define BETTER "mx1.example.org"

static struct session {
	int step;
	double asked;
	size_t length;
	char reply[1024];
} sessions[MOST];
static struct pollfd sockets[MOST];

static struct sockaddr_in server = { .sin_family = AF_INET };
static int greetings, begun, known;
static double *waits;

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

static void die(const char *what, const char *reply)
{
	fprintf(stderr, "sessions: %s: %s\n", what, reply);
	exit(1);
}

static void connect_to_server(int i)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (connect(fd, (struct sockaddr *)&server, sizeof server))
		die("cannot connect", "");
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
	sockets[i] = (struct pollfd){ fd, POLLIN, 0 };
	sessions[i].step = GREETING;
	sessions[i].length = 0;
	greetings++;
	begun++;
}

/* The step is done: takes the next one. */
static void go_on(int i)
{
	struct session *session = &sessions[i];
	const char *command;

	if (session->step == GREETING)
		greetings--;
	if (session->step == RCPT) {
		if (!strstr(session->reply, BETTER))
			die("not deferred", session->reply);
		waits[known++] = now() - session->asked;
	}
	if (++session->step == STEPS) {
		close(sockets[i].fd);
		sockets[i].fd = -1;
		return;
	}
	command = steps[session->step].command;
	session->length = 0;
	session->asked = now();
	if (write(sockets[i].fd, command, strlen(command)) < 0)
		die("cannot send", command);
	/* Exim replies 0.2 s later to a client that has not yet said that this is the end. */
	if (session->step == QUIT)
		shutdown(sockets[i].fd, SHUT_WR);
}

/* Reads what there is of a reply, which has one line. */
static void reply(int i)
{
	struct session *session = &sessions[i];
	const char *command = steps[session->step].command, *expected = steps[session->step].reply;
	ssize_t count = read(sockets[i].fd, session->reply + session->length, sizeof session->reply - 1 - session->length);

	if (count <= 0)
		die("no reply to", command);
	session->reply[session->length += count] = 0;
	if (!strchr(session->reply, '\n'))
		return;
	if (strncmp(session->reply, expected, strlen(expected)))
		die(command, session->reply);
	go_on(i);
}

static int compare(const void *one, const void *other)
{
	double a = *(const double *)one, b = *(const double *)other;

	return (a > b) - (a < b);
}

int main(int argc, char **argv)
{
	int most = argc == 5 ? atoi(argv[3]) : 0, count = argc == 5 ? atoi(argv[4]) : 0;
	double start;

	if (most < 1 || most > MOST || count < 1 || inet_pton(AF_INET, argv[1], &server.sin_addr) != 1)
		return 2;
	server.sin_port = htons(atoi(argv[2]));
	if (!(waits = malloc(sizeof *waits * count)))
		return 2;
	for (int i = 0; i < most; i++)
		sockets[i].fd = -1;
	start = now();
	while (known < count) {
		for (int i = 0; i < most; i++)
			if (sockets[i].fd < 0 && greetings < GREETINGS && begun < count)
				connect_to_server(i);
		if (poll(sockets, most, TIMEOUT) <= 0)
			die("no reply for a minute", "");
		for (int i = 0; i < most; i++)
			if (sockets[i].fd >= 0 && sockets[i].revents)
				reply(i);
	}
	qsort(waits, known, sizeof *waits, compare);
	printf("%.6f %.0f\n", now() - start, waits[known / 2] * 1e6);
	return 0;
}
