# Read by login shells.
if [ -n "${BASH-}" ] && [ -f ~/.bashrc ]; then
	. ~/.bashrc
fi
