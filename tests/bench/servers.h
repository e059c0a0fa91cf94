/* What the least C programs of `make bench` have in common: the mail servers of a domain. */
#include <arpa/nameser.h>
#include <resolv.h>

enum { SERVERS = 16 };

struct server {
	int preference;
	char name[NS_MAXDNAME];
};

/* Asks for the MX records of a domain; returns how many there are. The servers have the order of the answer. */
static int servers_of(const char *domain, struct server servers[SERVERS])
{
	unsigned char answer[4096];
	int length, count = 0;
	ns_msg message;
	ns_rr record;

	if ((length = res_query(domain, ns_c_in, ns_t_mx, answer, sizeof answer)) < 0
	    || ns_initparse(answer, length, &message))
		return 0;
	for (int i = 0; i < ns_msg_count(message, ns_s_an) && count < SERVERS; i++)
		if (!ns_parserr(&message, ns_s_an, i, &record) && ns_rr_type(record) == ns_t_mx
		    && dn_expand(answer, answer + length, ns_rr_rdata(record) + 2, servers[count].name, NS_MAXDNAME) > 0)
			servers[count++].preference = ns_get16(ns_rr_rdata(record));
	return count;
}
