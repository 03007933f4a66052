# What every login shell of the lab starts with.
export LANG=C.UTF-8
export EDITOR=nano
export PAGER=less
# -F leave when it fits the screen, -R show colours, -X leave the text there.
export LESS=-FRX
# No advertisements after docker commands.
export DOCKER_CLI_HINTS=false
