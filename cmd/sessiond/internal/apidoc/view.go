package apidoc

import (
	"html/template"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// A page is what the template shows.
type page struct {
	Title, Version, Summary string
	Style                   template.CSS
	Overview                template.HTML
	Credentials             []row
	CommonHeaders           []row // of every answer
	Groups                  []group
	Schemas                 []schema
	Problems                []problem
}

// A group is the operations of one tag.
type group struct {
	Name        string
	Description template.HTML
	Operations  []operation
}

type operation struct {
	ID, Method, Path, Summary string
	Below                     bool // any path below answers too
	Description               template.HTML
	Permissions               []string // any one is enough
	Credentials               []string // instead of that of the whole document
	Parameters                []row
	Requests                  []body
	RequestRequired           bool
	Answers                   []answer
	Refusals                  []answer
}

// A body is a request or an answer in one media type.
type body struct {
	MediaType string
	Type      typeName
	Tables    []table
	Examples  []example
}

type example struct{ Title, Text string }

type answer struct {
	Status      string
	Description template.HTML
	Headers     []row // beside the common ones
	Bodies      []body
	Problems    []string
}

type schema struct {
	Name        string
	Description template.HTML
	Tables      []table
}

// A problem is one kind of problem document, and the answers that carry it.
type problem struct {
	Code, Status string
	Descriptions []template.HTML
}

// problemPrefix begins the types of problem documents; what follows is the code.
const problemPrefix = "urn:sessiond:problem:"

func (d *document) page() page {
	p := page{
		Title: text(d.root, "info", "title"), Version: text(d.root, "info", "version"),
		Summary: text(d.root, "info", "summary"), Style: template.CSS(styleText),
		Overview: markdown(text(d.root, "info", "description"), 2),
	}
	each(member(d.root, "components", "securitySchemes"), func(name string, s *yaml.Node) {
		r := row{Name: name, In: text(s, "type"), Description: markdown(text(s, "description"), 5)}
		switch r.In {
		case "http":
			r.Type.Text = "Authorization: " + text(s, "scheme") + " " + text(s, "bearerFormat")
		case "apiKey":
			r.Type.Text = text(s, "in") + " " + text(s, "name")
		}
		p.Credentials = append(p.Credentials, r)
	})
	common := d.commonHeaders()
	each(member(d.root, "components", "headers"), func(name string, h *yaml.Node) {
		if common[name] {
			p.CommonHeaders = append(p.CommonHeaders, d.described(name, h))
		}
	})
	for _, tag := range items(member(d.root, "tags")) {
		p.Groups = append(p.Groups, group{
			Name: text(tag, "name"), Description: markdown(text(tag, "description"), 5),
			Operations: d.operations(text(tag, "name"), common),
		})
	}
	each(member(d.root, "components", "schemas"), func(name string, s *yaml.Node) {
		if shown(s) {
			p.Schemas = append(p.Schemas, schema{name, markdown(text(s, "description"), 5), d.tables(s)})
		}
	})
	p.Problems = d.problems()
	return p
}

// methods are the keys of a path that are operations.
var methods = []string{"get", "put", "post", "delete", "options", "head", "patch", "trace"}

// eachOperation calls f with every operation and its path.
func (d *document) eachOperation(f func(path, method string, item, op *yaml.Node)) {
	each(member(d.root, "paths"), func(path string, item *yaml.Node) {
		each(item, func(method string, op *yaml.Node) {
			if slices.Contains(methods, method) {
				f(path, method, item, op)
			}
		})
	})
}

// commonHeaders are the headers that every answer of every operation has.
func (d *document) commonHeaders() map[string]bool {
	seen, answers := make(map[string]int), 0
	d.eachOperation(func(_, _ string, _, op *yaml.Node) {
		each(member(op, "responses"), func(_ string, resp *yaml.Node) {
			answers++
			resp, _ = d.resolve(resp)
			each(member(resp, "headers"), func(name string, _ *yaml.Node) { seen[name]++ })
		})
	})
	common := make(map[string]bool)
	for name, n := range seen {
		common[name] = n == answers
	}
	return common
}

func (d *document) operations(tag string, common map[string]bool) []operation {
	var all []operation
	d.eachOperation(func(path, method string, item, op *yaml.Node) {
		if !slices.Contains(texts(member(op, "tags")), tag) {
			return
		}
		o := operation{
			ID: text(op, "operationId"), Method: strings.ToUpper(method), Path: path,
			Summary: text(op, "summary"), Description: markdown(text(op, "description"), 5),
			Permissions: texts(member(op, "x-permissions")), Below: text(op, "x-any-path-below") == "true",
		}
		if text(op, "x-any-method") == "true" {
			o.Method = "ANY"
		}
		for _, s := range items(member(op, "security")) {
			each(s, func(name string, _ *yaml.Node) { o.Credentials = append(o.Credentials, name) })
		}
		for _, list := range []*yaml.Node{member(item, "parameters"), member(op, "parameters")} {
			for _, param := range items(list) {
				param, _ = d.resolve(param)
				r := d.described(text(param, "name"), param)
				r.In = text(param, "in")
				o.Parameters = append(o.Parameters, r)
			}
		}
		request, _ := d.resolve(member(op, "requestBody"))
		o.Requests, o.RequestRequired = d.bodies(request), text(request, "required") == "true"
		each(member(op, "responses"), func(status string, resp *yaml.Node) {
			a := d.answer(status, resp, common)
			if status >= "400" {
				o.Refusals = append(o.Refusals, a)
			} else {
				o.Answers = append(o.Answers, a)
			}
		})
		all = append(all, o)
	})
	return all
}

// described is a parameter or header: a schema with a description and a requirement of its own.
func (d *document) described(name string, n *yaml.Node) row {
	n, _ = d.resolve(n)
	r := d.row(name, member(n, "schema"))
	r.Required = text(n, "required") == "true"
	r.Description = markdown(text(n, "description"), 5) + r.Description
	return r
}

func (d *document) answer(status string, resp *yaml.Node, common map[string]bool) answer {
	resp, _ = d.resolve(resp)
	a := answer{Status: status, Description: markdown(text(resp, "description"), 5), Problems: d.codes(resp)}
	each(member(resp, "headers"), func(name string, h *yaml.Node) {
		if !common[name] {
			a.Headers = append(a.Headers, d.described(name, h))
		}
	})
	a.Bodies = d.bodies(resp)
	return a
}

// codes are the codes of the problem documents that an answer carries.
func (d *document) codes(resp *yaml.Node) []string {
	var codes []string
	s := member(resp, "content", "application/problem+json", "schema")
	for _, part := range items(member(s, "allOf")) {
		for _, t := range texts(member(part, "properties", "type", "enum")) {
			codes = append(codes, strings.TrimPrefix(t, problemPrefix))
		}
	}
	return codes
}

func (d *document) bodies(n *yaml.Node) []body {
	var all []body
	each(member(n, "content"), func(mediaType string, content *yaml.Node) {
		s := member(content, "schema")
		if data := member(content, "x-event-data"); data != nil {
			s = data // what the lines of a stream hold says more than that it is text
		}
		b := body{MediaType: mediaType, Type: d.typeOf(s, 0), Tables: d.tables(s)}
		each(member(content, "examples"), func(name string, e *yaml.Node) {
			e, _ = d.resolve(e)
			title := text(e, "summary")
			if title == "" {
				title = name
			}
			if value := member(e, "value"); value != nil {
				b.Examples = append(b.Examples, example{title, d.example(value, mediaType)})
			}
		})
		all = append(all, b)
	})
	return all
}

// problems are the problem codes in the order of the document, with what the answers under components say of them.
func (d *document) problems() []problem {
	var all []problem
	for _, t := range texts(member(d.root, "components", "schemas", "ProblemType", "enum")) {
		p := problem{Code: strings.TrimPrefix(t, problemPrefix)}
		each(member(d.root, "components", "responses"), func(_ string, resp *yaml.Node) {
			if !slices.Contains(d.codes(resp), p.Code) {
				return
			}
			s := member(resp, "content", "application/problem+json", "schema")
			for _, part := range items(member(s, "allOf")) {
				if status := texts(member(part, "properties", "status", "enum")); len(status) == 1 {
					p.Status = status[0]
				}
			}
			if text := markdown(text(resp, "description"), 5); !slices.Contains(p.Descriptions, text) {
				p.Descriptions = append(p.Descriptions, text)
			}
		})
		all = append(all, p)
	}
	return all
}
