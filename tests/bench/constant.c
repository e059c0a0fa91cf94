/* The least policy service of Postfix, for `make bench`: the same answer to every question.
 * A question ends with an empty line. */
#include <unistd.h>

#define ANSWER "action=DEFER_IF_PERMIT 4.3.2 Please use mx1.example.org\n\n"

int main(void)
{
	static char bytes[4096];
	char last = 0;
	ssize_t count;

	while ((count = read(0, bytes, sizeof bytes)) > 0)
		for (ssize_t i = 0; i < count; i++) {
			if (bytes[i] == '\n' && last == '\n') {
				if (write(1, ANSWER, sizeof ANSWER - 1) < 0)
					return 1;
				last = 0;
			} else
				last = bytes[i];
		}
	return 0;
}
