package web_test

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"berth/labs"
	"berth/web"
)

// asking is a lesson with questions and values of the learner's own.
func asking() *labs.Lesson {
	who := labs.Var{Name: "who", Pick: []string{"<ada>"}}
	return &labs.Lesson{
		ID: "asking", Title: "Asking", Image: "shell", Paged: true, Vars: []labs.Var{who}, Layout: labs.LayoutEditor, Open: "~/app",
		Terminals: []labs.TerminalTab{{Name: "1", Title: "Shell"}}, Tabs: []labs.Tab{{Title: "Site", Port: 80}},
		Steps: []labs.Step{{ID: "one", Title: "One", HTML: "<p>for " + who.Mark() + "</p>", Checks: []labs.Check{
			{ID: "one/1", Name: "the question", Quiz: &labs.Quiz{Choices: []labs.Choice{{Text: "first"}, {Text: "second", Right: true}}}},
		}}},
	}
}

// send posts JSON.
func (p *person) send(path, body string) (status int, answer string) {
	p.t.Helper()
	req, err := http.NewRequest("POST", p.base+path, strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	req.Header.Set("X-Berth", "1")
	if p.cookie != nil {
		req.AddCookie(p.cookie)
	}
	resp, err := p.http.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestAnswers(t *testing.T) {
	ts, _, _ := newServer(t, nil, asking())
	p := newPerson(t, ts)
	id := p.open("asking")
	at := "/api/sessions/" + id + "/answers/one/1"
	for _, c := range []struct {
		body   string
		status int
		want   string
	}{
		{`{"picked":[0]}`, 200, `"status":"failed"`},
		{`{"picked":[1]}`, 200, `"status":"passed"`},
		{`{"picked":["x"]}`, 400, `"error"`},
		{`{"picked":[` + strings.Repeat("1,", 9000) + `1]}`, 400, `"error"`},
		{``, 400, `"error"`},
	} {
		status, got := p.send(at, c.body)
		if status != c.status || !strings.Contains(got, c.want) {
			t.Errorf("%.40s gives %d %s; want %d with %s", c.body, status, got, c.status, c.want)
		}
	}
	if status, _ := p.send("/api/sessions/"+id+"/answers/one/7", `{}`); status != 404 {
		t.Errorf("a question that is not there gives %d", status)
	}
	if status, _ := newPerson(t, ts).send(at, `{"picked":[1]}`); status != 404 {
		t.Errorf("attack: an answer in somebody else's session gives %d", status)
	}
	for range 40 { // nobody finds the answer by trying everything quickly
		if status, _ := p.send(at, `{"picked":[0]}`); status == 429 {
			return
		}
	}
	t.Error("attack: forty answers in a row were all taken")
}

func TestArrivals(t *testing.T) {
	ts, _, _ := newServer(t, nil, asking())
	p := newPerson(t, ts)
	id := p.open("asking")
	for part, want := range map[string]int{"intro": 204, "one": 204, "finish": 204, "nowhere": 404} {
		if status, body := p.send("/api/sessions/"+id+"/arrivals/"+part, ""); status != want {
			t.Errorf("arriving at %s gives %d %s", part, status, body)
		}
	}
	if status, _ := newPerson(t, ts).send("/api/sessions/"+id+"/arrivals/one", ""); status != 404 {
		t.Errorf("attack: arriving in somebody else's session gives %d", status)
	}
}

func TestLessonPageHasTheLearnersValues(t *testing.T) {
	ts, _, _ := newServer(t, nil, asking())
	p := newPerson(t, ts)
	text := string(p.must("GET", "/labs/asking"))
	if !strings.Contains(text, "for &lt;ada&gt;") {
		t.Error("the value is not in the page")
	}
	var data struct {
		Paged  bool
		Layout string
		Open   string
		Hosts  int
		Tabs   []struct {
			Title string
			Port  int
		}
		Terminals []struct{ Name, Title string }
	}
	_, script, _ := strings.Cut(text, `id="lesson">`)
	script, _, _ = strings.Cut(script, "</script>")
	if err := json.Unmarshal([]byte(script), &data); err != nil {
		t.Fatalf("%v in %s", err, script)
	}
	if !data.Paged || data.Layout != "editor" || data.Open != "~/app" || data.Hosts != 1 || len(data.Tabs) != 1 || data.Tabs[0].Port != 80 || len(data.Terminals) != 1 {
		t.Errorf("the page's data are %+v", data)
	}
	if strings.Contains(text, "Right") || strings.Contains(script, "second") {
		t.Error("attack: the page tells which answer is right")
	}
}

func TestChanges(t *testing.T) {
	d, _ := newDesk(t, asking())
	plain, _, _ := newServer(t, func(c *web.Config) { c.Desk = d })
	if resp := newPerson(t, plain).do("GET", "/api/labs/asking/changes"); resp.StatusCode != 404 {
		t.Errorf("a server whose labs nobody writes gives %s", resp.Status)
	}
	ts, _, _ := newServer(t, func(c *web.Config) { c.Desk, c.Watch = d, true })
	p := newPerson(t, ts)
	resp := p.do("GET", "/api/labs/asking/changes")
	defer resp.Body.Close()
	if resp.StatusCode != 200 {
		t.Fatal(resp.Status)
	}
	r := bufio.NewReader(resp.Body)
	nextEvent(t, r) // it is connected
	d.Edit([]*labs.Lesson{asking()}, map[string][]labs.Mistake{"asking": {{File: "lab.md", Line: 3, What: "so <b>", Warn: true}}})
	if e := nextEvent(t, r); e.event != "lesson" || !strings.Contains(e.data, `"line":3`) {
		t.Errorf("event %+v", e)
	}
	// A page with a session is told on the stream that it has.
	_, own := p.stream(p.open("asking"))
	for nextEvent(t, own).event != "state" {
	}
	d.Edit([]*labs.Lesson{asking()}, map[string][]labs.Mistake{"asking": {{File: "lab.md", Line: 3, What: "so <b>"}}})
	for e := nextEvent(t, own); e.event != "lesson"; e = nextEvent(t, own) {
	}
	text := string(p.must("GET", "/labs/asking"))
	if !strings.Contains(text, "so &lt;b&gt;") || !strings.Contains(text, "the last version without it") {
		t.Error("the page does not show the mistake")
	}
}

func TestALabThatCannotRun(t *testing.T) {
	l := asking()
	l.Cannot = "It needs a cluster."
	ts, _, _ := newServer(t, nil, l)
	p := newPerson(t, ts)
	if text := string(p.must("GET", "/labs/asking")); !strings.Contains(text, l.Cannot) {
		t.Error("the page does not say why")
	}
	if status, body := p.send("/api/labs/asking/session", ""); status != 400 || !strings.Contains(body, l.Cannot) {
		t.Errorf("opening it gives %d %s", status, body)
	}
}
