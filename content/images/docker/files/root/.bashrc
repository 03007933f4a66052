# Read by interactive shells.
[ -z "${PS1-}" ] && return

PS1='\[\e[1;32m\]\u@\h\[\e[0m\]:\[\e[1;34m\]\w\[\e[0m\]\$ '

HISTSIZE=5000
HISTFILESIZE=10000
HISTCONTROL=ignoredups
shopt -s checkwinsize histappend globstar

eval "$(dircolors -b)"
alias ls='ls --color=auto'
alias ll='ls -l'
alias la='ls -la'
alias grep='grep --color=auto'

if [ -z "${BASH_COMPLETION_VERSINFO-}" ] && [ -f /usr/share/bash-completion/bash_completion ]; then
	. /usr/share/bash-completion/bash_completion
fi
