/* A mail server that does nothing but greet, for `make bench`: as quick as can be, so that what asks it is measured.
 * primary address port   Each of its processes serves one client after another. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PROCESSES = 16, BACKLOG = 4096 };

#define GREETING "220 mx1.example.org ESMTP\r\n"
#define GOODBYE "221 2.0.0 Bye\r\n"

int main(int argc, char **argv)
{
	struct sockaddr_in address = { .sin_family = AF_INET };
	int server = socket(AF_INET, SOCK_STREAM, 0), client;
	char command[512];

	if (argc != 3 || inet_pton(AF_INET, argv[1], &address.sin_addr) != 1)
		return 2;
	address.sin_port = htons(atoi(argv[2]));
	if (setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &(int){ 1 }, sizeof(int))
	    || bind(server, (struct sockaddr *)&address, sizeof address) || listen(server, BACKLOG))
		return 2;
	for (int i = 1; i < PROCESSES; i++)
		if (!fork()) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			break;
		}
	signal(SIGPIPE, SIG_IGN);
	while ((client = accept(server, 0, 0)) >= 0) {
		/* A client that only hangs up has not sent a command. */
		if (write(client, GREETING, sizeof GREETING - 1) > 0 && read(client, command, sizeof command) > 0)
			(void)!write(client, GOODBYE, sizeof GOODBYE - 1);
		close(client);
	}
	return 2;
}
