/* The floor under --mx, for `make bench`: the least C that does the job for the mail servers of a domain, with neither
 * options nor rules.
 * mx port domain   The servers are asked in the order of their preferences, one after another, and of each all
 * addresses; the first that greets with 220 is printed. */
#include <stdlib.h>

#include "greets.h"
#include "servers.h"

static int by_preference(const void *one, const void *other)
{
	return ((const struct server *)one)->preference - ((const struct server *)other)->preference;
}

int main(int argc, char **argv)
{
	static struct server servers[SERVERS];
	int count = argc == 3 ? servers_of(argv[2], servers) : 0;

	qsort(servers, count, sizeof *servers, by_preference);
	for (int i = 0; i < count; i++)
		for (struct addrinfo *address = look_up(servers[i].name, argv[1]); address; address = address->ai_next)
			if (greets(address)) {
				size_t length = strlen(servers[i].name);
				servers[i].name[length] = '\n';
				return write(1, servers[i].name, length + 1) < 0 ? 2 : 1;
			}
	return 0;
}
