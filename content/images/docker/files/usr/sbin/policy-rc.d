#!/bin/sh
# Packages that are installed here start no services: there is no init system.
exit 101
