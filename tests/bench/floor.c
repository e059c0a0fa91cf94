/* The floor under `make bench`: the least C that does the job for one server, with neither options nor rules.
 * floor port server ...   Several are asked one after another; the first that greets with 220 is printed. */
#include "greets.h"

int main(int argc, char **argv)
{
	for (int i = 2; i < argc; i++) {
		struct addrinfo *address = look_up(argv[i], argv[1]);

		if (address && greets(address)) {
			size_t length = strlen(argv[i]);
			argv[i][length] = '\n';
			return write(1, argv[i], length + 1) < 0 ? 2 : 1;
		}
	}
	return 0;
}
