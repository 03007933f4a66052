package image

import (
	"slices"
	"testing"
)

func TestHostSources(t *testing.T) {
	const release = "ID=debian\nVERSION_CODENAME=bookworm\n"
	for _, tc := range []struct {
		name  string
		files map[string]string
		want  []string
	}{
		{"deb822", map[string]string{"os-release": release, "apt/sources.list.d/debian.sources": `Types: deb
# a comment
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb deb-src
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
`}, []string{
			"deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://mirror.example/debian trixie main",
			"deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://mirror.example/debian trixie-updates main",
			"deb http://mirror.example/debian-security trixie-security main",
		}},
		{"one line", map[string]string{"os-release": release, "apt/sources.list": `# deb http://old.example/debian bookworm main
deb [arch=amd64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] https://u:p@mirror.example/debian/ bookworm main non-free # ours
deb-src http://mirror.example/debian bookworm main
deb http://mirror.example/debian bookworm-backports main
deb http://mirror.example/debian bookworm main
deb http://mirror.example/debian bookworm main
`}, []string{
			"deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] https://u:p@mirror.example/debian/ trixie main",
			"deb http://mirror.example/debian trixie main",
		}},
		{"others that use the same suites", map[string]string{"os-release": release,
			"apt/sources.list.d/a.list": "deb [signed-by=/usr/share/keyrings/other.gpg] https://apt.other.example/debian bookworm main\n",
			"apt/sources.list.d/b.list": "deb https://apt.other.example bookworm main\n",
			"apt/sources.list.d/c.list": "deb https://download.other.example/linux/debian bookworm stable\n",
			"apt/sources.list.d/d.list": "deb file:/srv/debian bookworm main\ndeb cdrom:[Debian]/ bookworm main\n",
		}, nil},
		{"switched off", map[string]string{"os-release": release,
			"apt/sources.list.d/a.sources": "Types: deb\nURIs: http://m.example/debian\nSuites: bookworm\nComponents: main\nEnabled: no\n"}, nil},
		{"key in the file", map[string]string{"os-release": release,
			"apt/sources.list.d/a.sources": "Types: deb\nURIs: http://m.example/debian\nSuites: bookworm\nComponents: main\nSigned-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mQIN\n"}, nil},
		{"security alone", map[string]string{"os-release": release,
			"apt/sources.list": "deb http://m.example/debian-security bookworm-security main\n"}, nil},
		{"another distribution", map[string]string{"os-release": "ID=ubuntu\nVERSION_CODENAME=noble\n",
			"apt/sources.list": "deb http://m.example/debian noble main\n"}, nil},
		{"nothing", nil, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := hostSources(recipes(tc.files), "trixie"); !slices.Equal(got, tc.want) {
				t.Errorf("got  %q\nwant %q", got, tc.want)
			}
		})
	}
}

func TestWithoutPassword(t *testing.T) {
	got := withoutPassword("deb [signed-by=/a] https://u:p@mirror.example/debian trixie main\ndeb http://b.example/debian x main\n")
	if want := "deb [signed-by=/a] https://mirror.example/debian trixie main\ndeb http://b.example/debian x main\n"; got != want {
		t.Errorf("got %q", got)
	}
}
