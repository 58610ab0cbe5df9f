// Command promql answers questions about PromQL expressions with Prometheus' own parser and engine.
//
// It reads one JSON object from standard input and writes one to standard output:
// "expressions" are parsed, and what each selects and groups by is told; "queries" are evaluated over series that are
// written as in Prometheus' unit tests ("load 1m" and a line for each series).
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"
)

type question struct {
	Expressions []string `json:"expressions"`
	Queries     []query  `json:"queries"`
}

type query struct {
	Load    string `json:"load"`
	Expr    string `json:"expr"`
	Seconds int64  `json:"seconds"` // when it is evaluated, counted from the first sample
}

type answer struct {
	Expressions []expression `json:"expressions"`
	Results     []result     `json:"results"`
}

type expression struct {
	Error     string     `json:"error,omitempty"`
	Selectors []selector `json:"selectors"`
	Labels    []string   `json:"labels"` // named in by, without, on, ignoring and group_left
}

type selector struct {
	Metric   string    `json:"metric"`
	Matchers []matcher `json:"matchers"`
}

type matcher struct {
	Label string `json:"label"`
	Op    string `json:"op"`
	Value string `json:"value"`
}

type result struct {
	Error   string   `json:"error,omitempty"`
	Samples []sample `json:"samples"`
}

type sample struct {
	Labels map[string]string `json:"labels"`
	Value  string            `json:"value"`
}

func main() {
	var asked question
	if err := json.NewDecoder(os.Stdin).Decode(&asked); err != nil {
		fmt.Fprintln(os.Stderr, "promql: the question is not JSON:", err)
		os.Exit(64)
	}
	told := answer{Expressions: []expression{}, Results: []result{}}
	for _, text := range asked.Expressions {
		told.Expressions = append(told.Expressions, parse(text))
	}
	for _, each := range asked.Queries {
		told.Results = append(told.Results, evaluate(each))
	}
	if err := json.NewEncoder(os.Stdout).Encode(told); err != nil {
		fmt.Fprintln(os.Stderr, "promql:", err)
		os.Exit(70)
	}
}

func parse(text string) expression {
	found := expression{Selectors: []selector{}, Labels: []string{}}
	tree, err := parser.ParseExpr(text)
	if err != nil {
		found.Error = err.Error()
		return found
	}
	parser.Inspect(tree, func(node parser.Node, _ []parser.Node) error {
		switch each := node.(type) {
		case *parser.VectorSelector:
			selects := selector{Metric: each.Name, Matchers: []matcher{}}
			for _, match := range each.LabelMatchers {
				if match.Name != labels.MetricName {
					selects.Matchers = append(selects.Matchers, matcher{match.Name, match.Type.String(), match.Value})
				}
			}
			found.Selectors = append(found.Selectors, selects)
		case *parser.AggregateExpr:
			found.Labels = append(found.Labels, each.Grouping...)
		case *parser.BinaryExpr:
			if each.VectorMatching != nil {
				found.Labels = append(found.Labels, each.VectorMatching.MatchingLabels...)
				found.Labels = append(found.Labels, each.VectorMatching.Include...)
			}
		}
		return nil
	})
	return found
}

func evaluate(asked query) result {
	told := result{Samples: []sample{}}
	loader, err := promqltest.NewLazyLoader(asked.Load, promqltest.LazyLoaderOpts{EnableAtModifier: true, EnableNegativeOffset: true})
	if err != nil {
		told.Error = err.Error()
		return told
	}
	defer loader.Close()
	at := time.Unix(asked.Seconds, 0).UTC()
	loader.WithSamplesTill(at, func(failed error) { err = failed })
	if err != nil {
		told.Error = err.Error()
		return told
	}
	instant, err := loader.QueryEngine().NewInstantQuery(loader.Context(), loader.Queryable(), nil, asked.Expr, at)
	if err != nil {
		told.Error = err.Error()
		return told
	}
	vector, err := instant.Exec(loader.Context()).Vector()
	if err != nil {
		told.Error = err.Error()
		return told
	}
	for _, each := range vector {
		told.Samples = append(told.Samples, one(each))
	}
	return told
}

func one(each promql.Sample) sample {
	return sample{Labels: each.Metric.Map(), Value: fmt.Sprint(each.F)}
}
