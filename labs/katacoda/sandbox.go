package katacoda

import (
	"regexp"
	"strings"
)

// image is the sandbox that every scenario runs in, if it runs.
const image = "docker"

// What an imageid says about where its scenario runs.
var (
	kubernetes = regexp.MustCompile(`kubernetes|kubeadm|minikube|microk8s|openshift|kubeflow|istio|knative|rancher|\bk[038]s|\bkind\b|\bocp\b|cluster-running`)
	// Linux with a Docker Engine, and images that add one language or tool to it.
	ours       = regexp.MustCompile(`^(ubuntu|docker|swarm|none|bash|debian|linux|git|ansible|vscode|terminal|coding|editor|envoy-docker|node(js)?|python|go(lang)?|java|openjdk|jdk|jshell|maven|gradle|dotnet|csharp|fsharp|rust|ruby|php|perl|r|rlang|rstudio|kotlin|scala|swift|elixir|erlang|haskell|clojure|gcc|cpp|c\+\+|julia|lua|typescript|deno|bun|tensorflow|jupyter|postgres|mysql|redis|mongo)($|[^a-z+])|^(ubuntu|bash|docker)`)
	plainImage = regexp.MustCompile(`^(ubuntu|docker|swarm|none|bash|debian|linux|terminal|git|vscode|editor|coding|envoy-docker)`)
	// twoNodes are images that are known for a second host.
	twoNodes = regexp.MustCompile(`swarm|2-?nodes|consul-cluster`)
)

// A place says where a scenario runs.
type place struct {
	cannot string // why it cannot run here, one sentence, or ""
	lacks  string // what may have to be installed first, for a warning, or ""
	hosts  int    // sandboxes that the image alone asks for
}

// placeOf reads an imageid, which is spelled in many ways: ubuntu,
// ubuntu:2004, ubuntu2004, ubuntu-4GB.
func placeOf(imageid string) place {
	id := strings.ToLower(strings.TrimSpace(imageid))
	switch {
	case id == "":
		return place{hosts: 1}
	case kubernetes.MatchString(id):
		return place{cannot: "This lab needs Kubernetes, which the sandboxes here do not have. It can be read.", hosts: 1}
	case !ours.MatchString(id):
		return place{cannot: "This lab was made for the machine " + quote(id) + ", which there is none of here. It can be read.", hosts: 1}
	}
	p := place{hosts: 1}
	if twoNodes.MatchString(id) {
		p.hosts = 2
	}
	if !plainImage.MatchString(id) {
		p.lacks = imageid
	}
	return p
}

// hostNumber tells which sandbox a name of a host means, 0 when none.
func hostNumber(name string) int {
	switch n := strings.ToLower(strings.TrimSpace(name)); n {
	case "", "host", "host1", "host01", "client", "client01", "master", "controlplane", "master01", "manager", "terminal", "ubuntu", "localhost", "docker", "node00", "all":
		return 1
	case "host2", "host02", "node", "node1", "node01", "worker", "worker1", "worker01", "client02":
		return 2
	}
	return 0
}

// secondHost finds what in a text is about a second host.
var secondHost = regexp.MustCompile(`(?i)\}?\bHOST0?2\b|\[\[HOST2_|_HOST2_`)
