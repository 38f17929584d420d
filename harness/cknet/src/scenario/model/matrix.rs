//! Owns the table of flows: reading it cell by cell with places, printing it back.
//! Must not know how flows are probed.

use super::super::read::{FromText, Read, Reading, record};
use super::super::source::Span;
use super::super::tree::{Node as TreeNode, Style, Value};
use super::{Endpoint, Outcome, PortProto, Via};

/// Flows from each row to each column, and what becomes of them.
///
/// ```text
/// from      backend:8080/tcp  db:5432/tcp
/// frontend  allowed           dropped
/// other     dropped           -
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matrix {
    /// From where flows are sent.
    pub rows: Vec<Endpoint>,
    /// To where flows are sent.
    pub columns: Vec<Column>,
    /// What becomes of them, row by row; `None` where `-` says that the flow is not sent.
    pub cells: Vec<Vec<Option<Outcome>>>,
    /// Line in the scenario file of each row, from 1.
    pub lines: Vec<usize>,
    /// By which address the flows go.
    pub via: Via,
}

/// A target with a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// The target.
    pub to: Endpoint,
    /// The port.
    pub port: PortProto,
}

impl std::fmt::Display for Column {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&format!("{}:{}", self.to, self.port))
    }
}

/// One flow of a [`Matrix`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cell<'m> {
    /// Row, from 0.
    pub row: usize,
    /// Column, from 0.
    pub column: usize,
    /// From where the flow is sent.
    pub from: &'m Endpoint,
    /// To where it is sent.
    pub to: &'m Endpoint,
    /// To which port.
    pub port: PortProto,
    /// What becomes of it.
    pub is: Outcome,
}

impl Matrix {
    /// Each flow that is sent, row by row.
    pub fn flows(&self) -> impl Iterator<Item = Cell<'_>> {
        self.rows.iter().zip(&self.cells).enumerate().flat_map(move |(row, (from, cells))| {
            let flow = move |(column, (target, is)): (usize, (&'_ Column, &Option<Outcome>))| {
                Some((column, target.port, (*is)?))
            };
            self.columns.iter().zip(cells).enumerate().filter_map(flow).map(move |(column, port, is)| Cell {
                row,
                column,
                from,
                to: &self.columns[column].to,
                port,
                is,
            })
        })
    }

    /// The table as it is written in a file.
    #[must_use]
    pub fn table(&self) -> String {
        self.table_of(|row, column| self.cells[row][column].map_or("-", Outcome::word).to_owned())
    }

    /// The same table with other texts in its cells, such as what was seen.
    #[must_use]
    pub fn table_of(&self, cell: impl Fn(usize, usize) -> String) -> String {
        let mut lines = vec![vec!["from".to_owned()]];
        lines[0].extend(self.columns.iter().map(ToString::to_string));
        for (row, from) in self.rows.iter().enumerate() {
            let mut line = vec![from.to_string()];
            line.extend((0..self.columns.len()).map(|column| cell(row, column)));
            lines.push(line);
        }
        aligned(&lines)
    }
}

/// Columns two spaces apart, no white space at the ends of lines.
fn aligned(lines: &[Vec<String>]) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut table = String::new();
    for line in lines {
        let cells = line.iter().zip(&widths);
        let padded: String = cells.map(|(cell, width)| format!("{cell:width$}  ")).collect();
        table.push_str(padded.trim_end());
        table.push('\n');
    }
    table
}

record! {
    "a matrix";
    /// How a matrix with more than its table is written.
    pub struct MatrixSpec {
        /// The table.
        pub table: Table,
        /// By which address the flows go; `pod` unless given.
        #[schemars(default)]
        pub via: Via = Via::default(),
    }
}

/// The table of a matrix as text: first line `from` and the targets with ports, then a line for
/// each source; cells are outcomes or `-`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table(Matrix);

impl Read for Matrix {
    fn read(node: &TreeNode, r: &mut Reading<'_>) -> Option<Self> {
        if let Value::Scalar { .. } = node.value {
            return Table::read(node, r).map(|table| table.0);
        }
        let spec = MatrixSpec::read(node, r)?;
        Some(Self { via: spec.via, ..spec.table.0 })
    }
}

impl Read for Table {
    fn read(node: &TreeNode, r: &mut Reading<'_>) -> Option<Self> {
        let words = words(node, r)?;
        let mut lines = words.into_iter();
        let header = lines.next().unwrap_or_default();
        let columns = columns(&header, node, r);
        let mut matrix = Matrix {
            rows: Vec::new(),
            columns: columns.clone().unwrap_or_default(),
            cells: Vec::new(),
            lines: Vec::new(),
            via: Via::Pod,
        };
        let width = header.len() - usize::from(header.first().is_some_and(|word| word.text == "from"));
        let mut complete = columns.is_some();
        for line in lines {
            complete &= add_row(&mut matrix, &line, width, r).is_some();
        }
        if complete && matrix.rows.is_empty() {
            r.problem(node.point(), "the table has no row; each line after the first one is a source");
            return None;
        }
        complete.then_some(Self(matrix))
    }
}

/// A word of the table and its place.
struct Word {
    text: String,
    span: Span,
}

/// The words of each line of the table that is not empty.
fn words(node: &TreeNode, r: &mut Reading<'_>) -> Option<Vec<Vec<Word>>> {
    let text = r.fixed_text(node, "a table")?;
    let literal = matches!(node.value, Value::Scalar { style: Style::Literal, .. });
    if !literal || node.text() != Some(text.as_str()) {
        r.problem(node.point(), "a table is a block text: `|` and then a line for each row, without references");
        return None;
    }
    let first = first_line(node, &text, r);
    let lines = text.lines().enumerate().map(|(index, content)| {
        let line = first + index;
        let raw = r.source.line(line);
        let indent = raw.len().saturating_sub(content.len());
        let start = r.source.line_start(line) + indent;
        split(content, start)
    });
    Some(lines.filter(|words| !words.is_empty()).collect())
}

/// The line in which the text of a block scalar starts: the parser's span may begin at the `|`
/// or at the text.
fn first_line(node: &TreeNode, text: &str, r: &Reading<'_>) -> usize {
    let line = r.source.position(node.span.start).line;
    let wanted = text.lines().next().unwrap_or_default().trim();
    let candidates = [line, line + 1];
    candidates.into_iter().find(|line| r.source.line(*line).trim() == wanted).unwrap_or(line)
}

fn split(content: &str, start: usize) -> Vec<Word> {
    let base = content.as_ptr() as usize;
    content
        .split_whitespace()
        .map(|word| {
            let at = start + (word.as_ptr() as usize - base);
            Word { text: word.to_owned(), span: Span::new(at, at + word.len()) }
        })
        .collect()
}

fn columns(header: &[Word], node: &TreeNode, r: &mut Reading<'_>) -> Option<Vec<Column>> {
    let targets = match header {
        [] => &[],
        [first, rest @ ..] if first.text == "from" => rest,
        all => all,
    };
    if targets.is_empty() {
        let message = "the table has no column; its first line is `from` and the targets, like `from  web:80/tcp`";
        r.problem(node.point(), message);
        return None;
    }
    let columns: Vec<Option<Column>> = targets.iter().map(|word| column(word, r)).collect();
    columns.into_iter().collect()
}

fn column(word: &Word, r: &mut Reading<'_>) -> Option<Column> {
    let Some((to, port)) = word.text.rsplit_once(':') else {
        let message = format!("`{}` has no port; a column is written like `web:80/tcp`", word.text);
        r.problem(word.span, message);
        return None;
    };
    let to_span = Span::new(word.span.start, word.span.start + to.len());
    let port_span = Span::new(to_span.end + 1, word.span.end);
    let to = Endpoint::read_at(to, to_span, r);
    let port = PortProto::from_text(port).map_err(|wrong| r.problem(port_span, wrong)).ok();
    Some(Column { to: to?, port: port? })
}

fn add_row(matrix: &mut Matrix, line: &[Word], width: usize, r: &mut Reading<'_>) -> Option<()> {
    let (first, cells) = line.split_first()?;
    let from = Endpoint::read_at(&first.text, first.span, r);
    if cells.len() != width {
        let plural = if cells.len() == 1 { "" } else { "s" };
        let message = format!("this row has {} cell{plural}, the first line has {width} columns", cells.len());
        r.problem(first.span, message);
        return None;
    }
    let outcomes: Vec<Option<Option<Outcome>>> = cells
        .iter()
        .map(|word| match word.text.as_str() {
            "-" => Some(None),
            text => Outcome::read_word(text, word.span, r).map(Some),
        })
        .collect();
    matrix.cells.push(outcomes.into_iter().collect::<Option<_>>()?);
    matrix.rows.push(from?);
    matrix.lines.push(r.source.position(first.span.start).line);
    Some(())
}

impl schemars::JsonSchema for Table {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Table".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "First line: `from` and the targets with ports; then a line for each source with an outcome for each target, or `-`",
        })
    }
}

impl schemars::JsonSchema for Matrix {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Matrix".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let table = generator.subschema_for::<Table>();
        let spec = generator.subschema_for::<MatrixSpec>();
        schemars::json_schema!({ "anyOf": [table, spec] })
    }
}
