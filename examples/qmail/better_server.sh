# A function for the scripts of qmail and of other mail servers on the secondary
# mx2.example.org: the server that a client should use in place of this one.
#
#   . /var/qmail/bin/better_server.sh
#   if server=$(better_server "$domain" "$sender" "$recipient"); then
#       echo "450 4.3.2 Please use $server"
#   fi
#
# Replace mx2.example.org, this server as the MX records name it. If domains
# call this machine by different names, give --stop once for each name.
#
# Call it last, when mail for other domains and for unknown users has been
# rejected, and that of your own machines and users has been accepted.

# better_server DOMAIN [SENDER RECIPIENT]
#
# If a better mail server for DOMAIN is up, prints its name and returns 0: defer
# the message. Otherwise prints nothing and returns 1: accept it. If smtpdcheck
# cannot tell or cannot be run, returns 1 as well, and standard error says why.
#
# SENDER and RECIPIENT are for --max-defer. In place of the null sender, pass the
# client's address.
better_server() (
    # No domain, or an address in brackets: there is nothing to ask.
    case ${1-} in
    '' | -* | '['*) exit 1 ;;
    esac

    # Standard input may be the connection to the client.
    name=$(/usr/local/bin/smtpdcheck --mx "$1" --stop mx2.example.org \
        </dev/null) && status=0 || status=$?

    # On a busy machine, use this command instead. It remembers a server that is
    # up for five seconds, and a dead one for a minute. A message first deferred
    # four hours ago is accepted: its sender may be unable to reach the better
    # server. The directory must belong to the user that runs this script:
    #
    #   install -d -o USER -m 700 /var/lib/smtpdcheck
    #
    #name=$(/usr/local/bin/smtpdcheck --mx "$1" --stop mx2.example.org \
    #    --cache /var/lib/smtpdcheck/cache --cache-up-ttl 5 \
    #    ${3:+--max-defer=4h} ${3:+"--key=$2 $3"} \
    #    </dev/null) && status=0 || status=$?

    case $status in
    0) exit 1 ;; # no better server is up
    1) [ -n "$name" ] && printf '%s\n' "$name" && exit 0 ;;
    2) exit 1 ;; # smtpdcheck cannot tell, and has said why
    esac
    echo "better_server: smtpdcheck failed with status $status" >&2
    exit 1
)
