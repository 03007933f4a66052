#!/bin/sh
set -e

# An option or a configuration file as the first argument is for redis-server.
case "${1-}" in
-* | *.conf) set -- redis-server "$@" ;;
esac

if [ "$1" = redis-server ]; then
	if [ "$(id -u)" = 0 ]; then
		# The data belongs to redis, and the server runs as redis.
		find . ! -user redis -exec chown redis '{}' +
		exec gosu redis "$0" "$@"
	fi
	# Other containers may connect; what the world may reach is decided by
	# the ports that docker run publishes.
	set -- "$@" --protected-mode no
fi

exec "$@"
