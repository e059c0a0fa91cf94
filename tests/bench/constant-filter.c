/* The least filter of OpenSMTPD, for `make bench`: the same answer to every question.
 * A question is filter|VERSION|TIME|smtp-in|rcpt-to|SESSION|TOKEN|ADDRESS. */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define REGISTER "register|filter|smtp-in|rcpt-to\nregister|ready\n"

/* Where the field with this number begins, the first one being 0. */
static const char *field(const char *line, int number)
{
	while (number-- && (line = strchr(line, '|')))
		line++;
	return line;
}

static int answer(const char *line)
{
	const char *session = field(line, 5), *address = field(line, 7);

	if (!strcmp(line, "config|ready"))
		return write(1, REGISTER, sizeof REGISTER - 1) > 0;
	if (strncmp(line, "filter|", 7))
		return 1;
	return address && dprintf(1, "filter-result|%.*s|reject|450 4.3.2 Please use mx1.example.org\n",
				  (int)(address - session - 1), session) > 0;
}

int main(void)
{
	static char bytes[65536 + 1];
	size_t length = 0;
	ssize_t count;
	char *line, *end;

	while ((count = read(0, bytes + length, sizeof bytes - 1 - length)) > 0) {
		length += count;
		bytes[length] = 0;
		for (line = bytes; (end = strchr(line, '\n')); line = end + 1) {
			*end = 0;
			if (!answer(line))
				return 1;
		}
		length -= line - bytes;
		memmove(bytes, line, length);
	}
	return 0;
}
